"""``hsframework demo``: the main job on one machine, with everything real.

A dispatcher and an agent run as processes of their own; the peers are OpenSSL's ``s_server`` and ``s_client``, and
where hsframework-quic is installed aioquic's own client and server, where hsframework-psp is our own commands; this
process is the consumer.  Everything is in a temporary folder and on the loopback interface, and gone afterwards.

=============  =========================================================================
processes      the children: starting, waiting until they serve, stopping
meeting        a peer program and our socket to it
peers          OpenSSL's programs, both roles
quic_peers     aioquic's, both roles
aioquic_peer   the program that they run; aioquic itself comes with hsframework-quic
psp_peers      our own commands, both roles: nobody else speaks PSP's key exchange
scenarios      what is run, and what must come out of it
exchange       running one scenario: socket, handshake, data both ways
picture        the picture of who did what, and the table
stage          putting it all together
=============  =========================================================================
"""
