"""Sessions under the libraries that programs have: what they call a socket, a context, a transport, a stream.

========================  ==========================================================================================
module                    for
========================  ==========================================================================================
:mod:`.sockets`           programs and libraries with blocking sockets: http.client, urllib3, requests, smtplib, httpx
:mod:`.context`           the same, where they take an ``ssl.SSLContext``
:mod:`.aio`               asyncio: StreamReader and StreamWriter, transports and protocols, STARTTLS
:mod:`.httpx`             httpx's AsyncClient (``hsframework[httpx]``)
:mod:`.uvicorn`           uvicorn (``hsframework[uvicorn]``)
:mod:`.aiosmtpd`          STARTTLS in aiosmtpd (``hsframework[aiosmtpd]``)
========================  ==========================================================================================

Every handshake still runs in the service: no adapter sees a private key.  Certificates are judged by the options' trust
or the profile's, and nothing that a library sets on a context makes the judgement weaker.
"""
