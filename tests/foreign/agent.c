/* SPDX-License-Identifier: MIT */
/*
 * An agent in C: it serves the group "knock" with a handshake of one line each way.  Nothing but the C library, the
 * kernel's headers and hsframework.h is needed.  That header is generated from the specification of the messages, which
 * are described in docs/reference/agents-socket.md.
 *
 *	agent [-x] RUNTIME-DIR/agent.sock		-x: every message in hexadecimal on standard error
 *
 * The client sends "KNOCK\n", the server answers "ENTER\n".  One thread, one poll(): many handshakes at once.
 *
 * The rules that any agent keeps:
 *  - Only bytes of the handshake are read from a consumer's socket.  What follows them is the consumer's.
 *  - The socket's O_NONBLOCK is its owner's too, so each call says MSG_DONTWAIT instead.
 *  - Each request that came is answered by one DONE, at the latest when its time is over, and its socket closed before.
 *  - ACCEPT is repeated until EAGAIN; only then another READY comes.
 */
#include "hsframework.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FAMILY		0x20		/* nlmsg_type of every message but errors */
#define MAX_PACKET	(200 * 1024)
#define MAX_IN_HAND	64
#define GROUP		"knock"
#define LINE		6		/* bytes of "KNOCK\n" and of "ENTER\n" */

/* A message that is being made. */
struct message {
	union {
		struct nlmsghdr header;
		char bytes[512];
	};
};

struct handshake {
	int fd;
	uint32_t id;
	uint32_t role;
	int64_t deadline;		/* milliseconds, as now() */
	size_t received;
	char line[LINE];
};

static int dispatcher;			/* our connection to it */
static bool show;
static uint32_t sequence;
static struct handshake in_hand[MAX_IN_HAND];
static int number_in_hand;
static bool accepting;			/* an ACCEPT has not been answered yet */
static bool ready;			/* requests wait, as far as we know */

static void fail(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static void dump(char direction, const void *data, size_t size)
{
	const unsigned char *bytes = data;

	if (!show)
		return;
	fprintf(stderr, "%c ", direction);
	for (size_t i = 0; i < size; i++)
		fprintf(stderr, "%02x", bytes[i]);
	fprintf(stderr, "\n");
}

/* Messages that go out */

static void begin(struct message *message, uint16_t type, uint16_t flags, uint32_t number)
{
	memset(message, 0, sizeof(*message));
	message->header.nlmsg_len = NLMSG_HDRLEN;
	message->header.nlmsg_type = type;
	message->header.nlmsg_flags = flags;
	message->header.nlmsg_seq = number;
}

static void append(struct message *message, const void *data, size_t size)
{
	memcpy(message->bytes + message->header.nlmsg_len, data, size);
	message->header.nlmsg_len += NLMSG_ALIGN(size);
}

static void begin_operation(struct message *message, uint8_t operation, uint16_t flags)
{
	struct genlmsghdr generic = { .cmd = operation, .version = 1 };

	begin(message, FAMILY, flags, ++sequence);
	append(message, &generic, sizeof(generic));
}

static void put(struct message *message, uint16_t type, const void *data, size_t size)
{
	struct nlattr attribute = { .nla_len = NLA_HDRLEN + size, .nla_type = type };

	append(message, &attribute, sizeof(attribute));
	append(message, data, size);
}

static void put_u32(struct message *message, uint16_t type, uint32_t value)
{
	put(message, type, &value, sizeof(value));
}

static void put_string(struct message *message, uint16_t type, const char *text)
{
	put(message, type, text, strlen(text) + 1);
}

static void send_message(const struct message *message)
{
	dump('>', message, message->header.nlmsg_len);
	if (send(dispatcher, message, message->header.nlmsg_len, MSG_NOSIGNAL) < 0)
		fail("send to the dispatcher");
}

static void join(void)
{
	struct message message;

	begin_operation(&message, HSFRAMEWORK_CMD_JOIN, NLM_F_REQUEST | NLM_F_ACK);
	put_string(&message, HSFRAMEWORK_A_MEMBERSHIP_GROUP, GROUP);
	put_string(&message, HSFRAMEWORK_A_MEMBERSHIP_PROTOCOL, "knock");
	put_u32(&message, HSFRAMEWORK_A_MEMBERSHIP_SOCKET_PROTOCOL, IPPROTO_TCP);
	put_string(&message, HSFRAMEWORK_A_MEMBERSHIP_AGENT, "agent-in-c");
	send_message(&message);
}

static void pull(void)
{
	struct message message;

	if (!ready || accepting || number_in_hand == MAX_IN_HAND)
		return;
	begin_operation(&message, HSFRAMEWORK_CMD_ACCEPT, NLM_F_REQUEST);
	put_string(&message, HSFRAMEWORK_A_REQUEST_GROUP, GROUP);
	send_message(&message);
	accepting = true;
}

static void acknowledge(const struct nlmsghdr *header)
{
	struct { int32_t error; struct nlmsghdr header; } payload = { .error = 0 };
	struct message message;

	payload.header.nlmsg_len = NLMSG_HDRLEN;
	payload.header.nlmsg_seq = header->nlmsg_seq;
	begin(&message, NLMSG_ERROR, NLM_F_CAPPED, header->nlmsg_seq);
	append(&message, &payload, sizeof(payload));
	send_message(&message);
}

/* The end of a handshake: status 0 with the session, or an errno with a text */
static void done(struct handshake *handshake, uint32_t status, const char *text)
{
	struct message message;

	close(handshake->fd);
	begin_operation(&message, HSFRAMEWORK_CMD_DONE, NLM_F_REQUEST);
	put_u32(&message, HSFRAMEWORK_A_OUTCOME_REQUEST_ID, handshake->id);
	put_u32(&message, HSFRAMEWORK_A_OUTCOME_STATUS, status);
	if (status) {
		put_string(&message, HSFRAMEWORK_A_OUTCOME_MESSAGE, text);
	} else {
		/* Of the protocol's own, opaque to the dispatcher. */
		put(&message, HSFRAMEWORK_A_OUTCOME_SESSION, "plain text", 10);
		put_string(&message, HSFRAMEWORK_A_OUTCOME_PROTOCOL, "knock");
	}
	send_message(&message);
	*handshake = in_hand[--number_in_hand];
}

/* The handshake itself */

static const char *ours(const struct handshake *handshake)
{
	return handshake->role == HSFRAMEWORK_MSG_TYPE_CLIENTHELLO ? "KNOCK\n" : "ENTER\n";
}

static const char *theirs(const struct handshake *handshake)
{
	return handshake->role == HSFRAMEWORK_MSG_TYPE_CLIENTHELLO ? "ENTER\n" : "KNOCK\n";
}

/* Six bytes fit into any socket's buffer at the beginning of a connection. */
static bool say(struct handshake *handshake)
{
	return send(handshake->fd, ours(handshake), LINE, MSG_DONTWAIT | MSG_NOSIGNAL) == LINE;
}

/* There is something to read.  Takes no more than the line. */
static void hear(struct handshake *handshake)
{
	ssize_t size = recv(handshake->fd, handshake->line + handshake->received, LINE - handshake->received, MSG_DONTWAIT);

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size <= 0) {
		done(handshake, ECONNRESET, "the peer has gone");
		return;
	}
	handshake->received += size;
	if (memcmp(handshake->line, theirs(handshake), handshake->received))
		done(handshake, EPROTO, "the peer does not knock");
	else if (handshake->received < LINE)
		return;
	else if (handshake->role == HSFRAMEWORK_MSG_TYPE_SERVERHELLO && !say(handshake))
		done(handshake, ECONNRESET, "the peer has gone");
	else
		done(handshake, 0, NULL);
}

/* Messages that come in */

static uint32_t get_u32(const struct nlattr *attribute)
{
	uint32_t value;

	memcpy(&value, (const char *)attribute + NLA_HDRLEN, sizeof(value));
	return value;
}

static void accepted(const struct nlmsghdr *header, int fd)
{
	struct handshake *handshake = &in_hand[number_in_hand++];
	const char *at = (const char *)header + NLMSG_HDRLEN + GENL_HDRLEN;
	const char *end = (const char *)header + header->nlmsg_len;

	memset(handshake, 0, sizeof(*handshake));
	handshake->fd = fd;
	while (at < end) {
		const struct nlattr *attribute = (const struct nlattr *)at;

		switch (attribute->nla_type & NLA_TYPE_MASK) {
		case HSFRAMEWORK_A_REQUEST_REQUEST_ID:
			handshake->id = get_u32(attribute);
			break;
		case HSFRAMEWORK_A_REQUEST_MESSAGE_TYPE:
			handshake->role = get_u32(attribute);
			break;
		case HSFRAMEWORK_A_REQUEST_TIMEOUT:
			handshake->deadline = now() + get_u32(attribute);
			break;
		}
		at += NLA_ALIGN(attribute->nla_len);
	}
	if (handshake->role == HSFRAMEWORK_MSG_TYPE_CLIENTHELLO && !say(handshake))
		done(handshake, ECONNRESET, "the peer has gone");
}

/* The dispatcher has completed the request itself: it wants no DONE any more, and our copy of the socket gone. */
static void cancelled(const struct nlmsghdr *header)
{
	uint32_t id = get_u32((const struct nlattr *)((const char *)header + NLMSG_HDRLEN + GENL_HDRLEN));

	for (int i = 0; i < number_in_hand; i++) {
		if (in_hand[i].id == id) {
			close(in_hand[i].fd);
			in_hand[i] = in_hand[--number_in_hand];
			break;
		}
	}
	acknowledge(header);
}

static void answered(const struct nlmsghdr *header)
{
	const struct nlmsgerr *answer = NLMSG_DATA(header);

	if (answer->error == 0) {		/* of JOIN, the only one that asks for it */
		printf("joined\n");
		fflush(stdout);
	} else if (answer->error == -EAGAIN) {	/* of ACCEPT: nothing waits */
		accepting = ready = false;
	} else {
		errno = -answer->error;
		fail("the dispatcher refuses");
	}
}

static void take_message(const struct nlmsghdr *header, int fd)
{
	const struct genlmsghdr *generic = NLMSG_DATA(header);

	if (header->nlmsg_type == NLMSG_ERROR) {
		answered(header);
	} else if (generic->cmd == HSFRAMEWORK_CMD_READY) {
		ready = true;
	} else if (generic->cmd == HSFRAMEWORK_CMD_ACCEPT && fd >= 0) {
		accepting = false;
		accepted(header, fd);
		return;				/* the socket is the handshake's now */
	} else if (generic->cmd == HSFRAMEWORK_CMD_CANCEL) {
		cancelled(header);
	}
	if (fd >= 0)				/* TRUST brings one, which this handshake has no use for */
		close(fd);
}

/* One packet: a message that may bring a file descriptor, or several without. */
static void receive_packet(void)
{
	static union { struct nlmsghdr header; char bytes[MAX_PACKET]; } packet;
	union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control;
	struct iovec part = { packet.bytes, sizeof(packet) };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control),
	};
	ssize_t size = recvmsg(dispatcher, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	int fd = -1;

	if (size < 0)
		fail("receive from the dispatcher");
	if (size == 0) {
		fprintf(stderr, "agent: the dispatcher is gone\n");
		exit(0);
	}
	if (rights && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
	for (ssize_t at = 0; at < size;) {
		struct nlmsghdr *header = (struct nlmsghdr *)(packet.bytes + at);

		dump('<', header, header->nlmsg_len);
		take_message(header, fd);
		fd = -1;
		at += NLMSG_ALIGN(header->nlmsg_len);
	}
}

static int milliseconds_left(void)
{
	int64_t least = -1;

	for (int i = 0; i < number_in_hand; i++) {
		int64_t left = in_hand[i].deadline - now();

		if (left < 0)
			left = 0;
		if (least < 0 || left < least)
			least = left;
	}
	return least;
}

static void serve(void)
{
	struct pollfd wanted[MAX_IN_HAND + 1];
	int number;

	for (;;) {
		pull();
		wanted[0] = (struct pollfd){ .fd = dispatcher, .events = POLLIN };
		number = number_in_hand;
		for (int i = 0; i < number; i++)
			wanted[i + 1] = (struct pollfd){ .fd = in_hand[i].fd, .events = POLLIN };
		if (poll(wanted, number + 1, milliseconds_left()) < 0 && errno != EINTR)
			fail("poll");
		/* From the last to the first: done() puts the last one into the place of the one that has ended. */
		for (int i = number - 1; i >= 0; i--) {
			if (wanted[i + 1].revents)
				hear(&in_hand[i]);
			else if (now() >= in_hand[i].deadline)
				done(&in_hand[i], ETIMEDOUT, "the peer said nothing in time");
		}
		if (wanted[0].revents)
			receive_packet();
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	setvbuf(stderr, NULL, _IOLBF, 1 << 16);
	show = argc > 1 && !strcmp(argv[1], "-x");
	if (argc != 2 + show || strlen(argv[argc - 1]) >= sizeof(address.sun_path)) {
		fprintf(stderr, "usage: agent [-x] RUNTIME-DIR/agent.sock\n");
		return 2;
	}
	strcpy(address.sun_path, argv[argc - 1]);
	dispatcher = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (dispatcher < 0 || connect(dispatcher, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(address.sun_path);
	join();
	serve();
}
