# SPDX-License-Identifier: Apache-2.0
# One end of an association, by the kernel's SCTP. Usage:
#   sctp_peer.py serve NAME ADDRESS PORT    says NAME and who the peer is, then echoes messages
#   sctp_peer.py ask ADDRESS PORT MESSAGES  prints what a server says, and checks each echo
import socket
import sys

SCTP = 132
MESSAGE = b"x" * 1000


def open_socket(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, SCTP)


def receive(peer, length):
    got = b""
    while len(got) < length:
        part = peer.recv(length - len(got))
        if not part:
            break
        got += part
    return got


def serve(name, address, port):
    with open_socket(address) as server:
        server.bind((address, int(port)))
        server.listen()
        while True:
            peer, whence = server.accept()
            with peer:
                peer.sendall(f"{name} {whence[0]}".encode().ljust(100))
                while message := receive(peer, len(MESSAGE)):
                    peer.sendall(message)


def ask(address, port, messages):
    with open_socket(address) as peer:
        peer.settimeout(20)
        peer.connect((address, int(port)))
        print(receive(peer, 100).decode().strip())
        for _ in range(int(messages)):
            peer.sendall(MESSAGE)
            if receive(peer, len(MESSAGE)) != MESSAGE:
                sys.exit("the echo is another message")


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
