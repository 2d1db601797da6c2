/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connect, request, response, close: as often as it goes.
 *
 *	crr serve PORT                        answers a byte with a byte, TCP and UDP, on all
 *addresses crr call ADDRESS PORT OPEN SECONDS    keeps OPEN connections going; prints how many a
 *second crr ask ADDRESS PORT OPEN SECONDS     the same by UDP, each datagram from a socket of its
 *own
 *
 * The client closes first. A connection that fails is counted apart and ends the run with 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

static void give_up(const char *what)
{
	fprintf(stderr, "crr: cannot %s: %s\n", what, strerror(errno));
	exit(2);
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static void watch(int poll, int fd, unsigned int events, int operation)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (epoll_ctl(poll, operation, fd, &event))
		give_up("watch a socket");
}

static int socket_new(int type)
{
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		give_up("open a socket");
	return fd;
}

static void answer(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, 0);

	if (got == 1 && send(fd, &byte, 1, MSG_NOSIGNAL) == 1)
		return;
	if (got < 0 && errno == EAGAIN)
		return;
	close(fd);
}

/* From the address that was asked. */
static void answer_datagrams(int fd)
{
	struct sockaddr_in from;
	char byte, control[256];
	struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
	    .msg_name = &from, .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control};

	for (;;) {
		message.msg_namelen = sizeof(from);
		message.msg_controllen = sizeof(control);
		if (recvmsg(fd, &message, 0) < 0)
			return;
		sendmsg(fd, &message, MSG_NOSIGNAL);
	}
}

static void serve(unsigned short port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket_new(SOCK_STREAM), datagrams = socket_new(SOCK_DGRAM);
	int poll = epoll_create1(EPOLL_CLOEXEC), yes = 1;

	setsockopt(datagrams, IPPROTO_IP, IP_PKTINFO, &yes, sizeof(yes));
	if (bind(datagrams, (struct sockaddr *)&address, sizeof(address)))
		give_up("take a port of UDP");
	watch(poll, datagrams, EPOLLIN, EPOLL_CTL_ADD);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096))
		give_up("listen");
	watch(poll, listener, EPOLLIN, EPOLL_CTL_ADD);
	puts("listening");
	fflush(stdout);
	for (;;) {
		struct epoll_event events[EVENTS];
		int count = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd == datagrams) {
				answer_datagrams(fd);
				continue;
			}
			if (fd != listener) {
				answer(fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
			       0)
				watch(poll, fd, EPOLLIN, EPOLL_CTL_ADD);
		}
	}
}

static void start(int poll, const struct sockaddr_in *to, int type)
{
	int fd = socket_new(type), yes = 1;

	if (type == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS)
		give_up("connect");
	watch(poll, fd, EPOLLOUT, EPOLL_CTL_ADD);
}

/* Takes a connection a step on: 1 when it is over, -1 when it failed. */
static int step(int poll, const struct epoll_event *event)
{
	int fd = event->data.fd;
	char byte = 'x';

	if (event->events & (EPOLLERR | EPOLLHUP))
		return -1;
	if (event->events & EPOLLOUT) {
		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
			return -1;
		watch(poll, fd, EPOLLIN, EPOLL_CTL_MOD);
		return 0;
	}
	return recv(fd, &byte, 1, 0) == 1 ? 1 : -1;
}

static int call(const struct sockaddr_in *to, int type, int open, double seconds)
{
	int poll = epoll_create1(EPOLL_CLOEXEC);
	double begin = now(), end = begin + seconds, at = begin;
	long done = 0, failed = 0;

	for (int i = 0; i < open; i++)
		start(poll, to, type);
	while (at < end) {
		struct epoll_event events[EVENTS];
		int count = epoll_wait(poll, events, EVENTS, 100);

		for (int i = 0; i < count; i++) {
			int outcome = step(poll, &events[i]);

			if (!outcome)
				continue;
			done += outcome > 0;
			failed += outcome < 0;
			close(events[i].data.fd);
			start(poll, to, type);
		}
		at = now();
	}
	printf("%.0f %ld\n", done / (at - begin), failed);
	return failed > 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};

	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(atoi(argv[2]));
	if (argc != 6 || (strcmp(argv[1], "call") && strcmp(argv[1], "ask")) ||
	    !inet_aton(argv[2], &to.sin_addr)) {
		fputs("usage: crr serve PORT | crr call|ask ADDRESS PORT OPEN SECONDS\n", stderr);
		return 2;
	}
	to.sin_port = htons(atoi(argv[3]));
	return call(&to, strcmp(argv[1], "ask") ? SOCK_STREAM : SOCK_DGRAM, atoi(argv[4]),
		    atof(argv[5]));
}
