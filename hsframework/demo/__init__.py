"""``hsframework demo``: the main job on one machine, with everything real.

A dispatcher and an agent run as processes of their own; the peers are OpenSSL's ``s_server`` and ``s_client``; this
process is the consumer.  Everything is in a temporary folder and on the loopback interface, and gone afterwards.

=============  =========================================================================
processes      the children: starting, waiting until they serve, stopping
peers          OpenSSL's programs, both roles
scenarios      what is run, and what must come out of it
psp            the same for PSP, whose peers are our own commands
exchange       running one scenario: socket, handshake, data both ways
picture        the picture of who did what, and the table
stage          putting it all together
=============  =========================================================================
"""
