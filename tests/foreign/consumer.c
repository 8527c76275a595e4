/* SPDX-License-Identifier: MIT */
/*
 * A consumer in C: it connects to a server, asks the service for a TLS session on the connection, and prints what came of
 * it.  Nothing but the C library, the kernel's headers and hsframework.h is needed.  The messages are described in
 * docs/reference/consumers-socket.md.
 *
 *	consumer [-x] [-n COUNT] RUNTIME-DIR/consumer.sock ADDRESS PORT NAME [PROFILE]
 *
 *	-x: every message in hexadecimal on standard error; -n: so many connections, one after another, over one link
 *
 * Exit status 0: every handshake succeeded; 1: one was refused or failed.
 *
 * The rules that any consumer keeps:
 *  - Until the result has come, nobody reads from the connection or writes to it: its bytes are the handshake's.
 *  - A link that ends before the result leaves the outcome open, and the connection is of no further use.  Only if the
 *    end is ECONNRESET was the request never read (the kernel says so of a packet that nobody took).
 *  - Attributes that are not known are passed over.  A descriptor that comes is closed.
 */
#include "hsframework.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FAMILY		0x20		/* nlmsg_type of every message but errors */
#define MAX_PACKET	(200 * 1024)
#define TIMEOUT_MS	20000

struct message {
	union {
		struct nlmsghdr header;
		char bytes[1024];
	};
};

static bool show;

static void die(const char *what)
{
	fprintf(stderr, "consumer: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void show_bytes(char direction, const void *data, size_t size)
{
	if (!show)
		return;
	fprintf(stderr, "%c ", direction);
	for (size_t i = 0; i < size; i++)
		fprintf(stderr, "%02x", ((const unsigned char *)data)[i]);
	fprintf(stderr, "\n");
}

/* Messages that are made */

static void begin(struct message *m, int command, uint32_t number)
{
	struct genlmsghdr *genl = (struct genlmsghdr *)(m->bytes + NLMSG_HDRLEN);

	memset(m, 0, sizeof(*m));
	m->header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
	m->header.nlmsg_type = FAMILY;
	m->header.nlmsg_flags = NLM_F_REQUEST;
	m->header.nlmsg_seq = number;
	genl->cmd = command;
	genl->version = HSFRAMEWORK_FAMILY_VERSION;
}

static void put(struct message *m, int type, const void *value, size_t size)
{
	struct nlattr *a = (struct nlattr *)(m->bytes + m->header.nlmsg_len);

	if (m->header.nlmsg_len + NLA_HDRLEN + NLA_ALIGN(size) > sizeof(m->bytes)) {
		errno = EMSGSIZE;
		die("a name");
	}
	a->nla_len = NLA_HDRLEN + size;
	a->nla_type = type;
	memcpy((char *)a + NLA_HDRLEN, value, size);
	m->header.nlmsg_len += NLA_ALIGN(a->nla_len);
}

static void put_u32(struct message *m, int type, uint32_t value)
{
	put(m, type, &value, sizeof(value));
}

static void put_string(struct message *m, int type, const char *text)
{
	put(m, type, text, strlen(text) + 1);
}

static void submit(int link, int connection, uint32_t number, const char *name, const char *profile)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct message m;
	struct iovec data = {.iov_base = m.bytes};
	struct msghdr packet = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&packet);

	begin(&m, HSFRAMEWORK_CMD_SUBMIT, number);
	put_string(&m, HSFRAMEWORK_A_REQUEST_GROUP, "tls13");
	put_u32(&m, HSFRAMEWORK_A_REQUEST_MESSAGE_TYPE, HSFRAMEWORK_MSG_TYPE_CLIENTHELLO);
	put_u32(&m, HSFRAMEWORK_A_REQUEST_AUTH_MODE, HSFRAMEWORK_AUTH_UNAUTH);
	put_u32(&m, HSFRAMEWORK_A_REQUEST_TIMEOUT, TIMEOUT_MS);
	put_string(&m, HSFRAMEWORK_A_REQUEST_PEERNAME, name);
	if (profile)
		put_string(&m, HSFRAMEWORK_A_REQUEST_PROFILE, profile);

	data.iov_len = m.header.nlmsg_len;
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &connection, sizeof(connection));
	show_bytes('>', m.bytes, m.header.nlmsg_len);
	if (sendmsg(link, &packet, MSG_NOSIGNAL) < 0)
		die("the request");
}

/* Messages that come */

static uint32_t u32(const void *value, size_t size)
{
	uint32_t number = 0;

	if (size == sizeof(number))
		memcpy(&number, value, sizeof(number));
	return number;
}

static bool refused(const char *bytes, size_t size)
{
	int32_t error;

	memcpy(&error, bytes + NLMSG_HDRLEN, sizeof(error));
	if (!error)
		return false;			/* an acknowledgement */
	printf("refused: %s", strerror(-error));
	if (size > 36 + NLA_HDRLEN)
		printf(": %.*s", (int)(size - 36 - NLA_HDRLEN), bytes + 36 + NLA_HDRLEN);
	printf("\n");
	return true;
}

/* The result: true if there is a session. */
static bool result(const char *bytes, size_t size)
{
	size_t at = NLMSG_HDRLEN + GENL_HDRLEN;
	uint32_t status = EPROTO;

	while (at + NLA_HDRLEN <= size) {
		struct nlattr a;
		const char *value = bytes + at + NLA_HDRLEN;
		size_t length;

		memcpy(&a, bytes + at, sizeof(a));
		if (a.nla_len < NLA_HDRLEN || at + a.nla_len > size)
			break;
		length = a.nla_len - NLA_HDRLEN;
		switch (a.nla_type & NLA_TYPE_MASK) {
		case HSFRAMEWORK_A_OUTCOME_STATUS:
			status = u32(value, length);
			break;
		case HSFRAMEWORK_A_OUTCOME_MESSAGE:
			printf("message: %.*s\n", (int)length, value);
			break;
		case HSFRAMEWORK_A_OUTCOME_REMOTE_CERTIFICATE:
			printf("certificate: %zu bytes of DER\n", length);
			break;
		case HSFRAMEWORK_A_OUTCOME_ALPN:
			printf("alpn: %.*s\n", (int)length, value);
			break;
		case HSFRAMEWORK_A_OUTCOME_IN_KERNEL:
			printf("in the kernel: read and write the connection\n");
			break;
		case HSFRAMEWORK_A_OUTCOME_SESSION:
			printf("session: %zu bytes, for a record layer in this process\n", length);
			break;
		case HSFRAMEWORK_A_OUTCOME_PROTOCOL:
			printf("protocol: %.*s\n", (int)length, value);
			break;
		}
		at += NLA_ALIGN(a.nla_len);
	}
	printf("status: %u %s\n", status, status ? strerror(status) : "success");
	return !status;
}

/* Wait for the outcome of the request with this number. */
static bool outcome(int link, uint32_t number)
{
	static char bytes[MAX_PACKET] __attribute__((aligned(4)));
	struct nlmsghdr header;

	for (;;) {
		/* Without room for control data the kernel closes a descriptor that comes. */
		ssize_t received = recv(link, bytes, sizeof(bytes), 0);
		size_t size = received < 0 ? 0 : received;

		if (received < 0 && errno == ECONNRESET)
			die("the request was not read");
		if (size < NLMSG_HDRLEN + GENL_HDRLEN)
			die("the dispatcher has gone, and the outcome is not known");
		/* A packet may hold several messages. */
		for (size_t at = 0; at + NLMSG_HDRLEN + GENL_HDRLEN <= size; at += header.nlmsg_len) {
			memcpy(&header, bytes + at, sizeof(header));
			if (header.nlmsg_len < NLMSG_HDRLEN + GENL_HDRLEN || at + header.nlmsg_len > size)
				break;
			show_bytes('<', bytes + at, header.nlmsg_len);
			if (header.nlmsg_seq != number)
				continue;
			if (header.nlmsg_type != NLMSG_ERROR)
				return result(bytes + at, header.nlmsg_len);
			if (refused(bytes + at, header.nlmsg_len))
				return false;
		}
	}
}

static int connect_to(const char *address, const char *port)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (inet_pton(AF_INET, address, &peer.sin_addr) != 1) {
		errno = EINVAL;
		die(address);
	}
	if (connection < 0 || connect(connection, (struct sockaddr *)&peer, sizeof(peer)))
		die(address);
	return connection;
}

static int open_link(const char *path)
{
	struct sockaddr_un place = {.sun_family = AF_UNIX};
	int link = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(place.sun_path, sizeof(place.sun_path), "%s", path);
	if (link < 0 || connect(link, (struct sockaddr *)&place, sizeof(place)))
		die(path);
	return link;
}

int main(int argc, char **argv)
{
	int option, link;
	uint32_t count = 1;
	bool good = true;

	while ((option = getopt(argc, argv, "xn:")) != -1) {
		if (option == 'x')
			show = true;
		else if (option == 'n')
			count = atoi(optarg);
		else
			return 2;
	}
	argv += optind;
	argc -= optind;
	if (argc < 4 || argc > 5) {
		fprintf(stderr, "consumer [-x] [-n COUNT] SOCKET ADDRESS PORT NAME [PROFILE]\n");
		return 2;
	}
	link = open_link(argv[0]);
	for (uint32_t number = 1; number <= count; number++) {
		int connection = connect_to(argv[1], argv[2]);

		submit(link, connection, number, argv[3], argc == 5 ? argv[4] : NULL);
		good = outcome(link, number) && good;
		close(connection);
	}
	close(link);
	return good ? 0 : 1;
}
