"""The command ``hsframework demo``: handshakes with foreign programs on one machine, through the real service.

A dispatcher and agents run as processes of their own, and this process is the consumer.  The peers are OpenSSL's
``s_server`` and ``s_client``; with hsframework-quic also aioquic's client and server, with hsframework-psp also our own
commands.  All files are in a temporary folder, all sockets on the loopback interface.

=============  =========================================================================
processes      the child processes: start, wait until they serve, stop
meeting        a peer program and our socket to it
peers          OpenSSL's programs, in both roles
quic_peers     aioquic, in both roles
aioquic_peer   the program that they run; aioquic itself comes with hsframework-quic
psp_peers      our own commands, in both roles: no other program speaks this key exchange for PSP
scenarios      the handshakes to run and their expected outcomes
exchange       one scenario: socket, handshake, data in both directions
picture        the drawing of one handshake, and the table of outcomes
stage          the whole demonstration
=============  =========================================================================
"""
