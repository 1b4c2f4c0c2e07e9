/* A load generator that is never the limit: it sends requests that were written beforehand, over keep-alive connections.

   load run PORT CONNECTIONS RATE FILE   RATE 0: closed loop, each connection sends its next request after an answer;
                                         else an open loop: so many requests a second, whatever the answers do, and a
                                         latency counts from when the request was due.
   load serve PORT                       a server that answers each request at once: what the generator itself can do.

   FILE: a request is its length as 4 bytes, little-endian, and its bytes. Each is sent once.
   run prints one line of JSON: requests answered, by status, seconds, latencies in ms. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 4096
#define BUFFER (1 << 20)

struct connection {
    int fd;
    const char *rest;  /* what of the request is still to be sent */
    size_t left;
    double due;        /* when the request was to be sent */
    int busy;          /* whether an answer is awaited */
    char *in;          /* the answer so far */
    size_t read;
    size_t skip;       /* bytes of the answer's body that are still to come, once its head was read */
};

static struct connection all[MOST_CONNECTIONS];
static int idle[MOST_CONNECTIONS], idle_count;
static long by_status[600];
static double *latencies;
static long answered;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int by_value(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* Where the head ends, or 0; its Content-Length in `length`. */
static size_t head_of(const char *in, size_t read, size_t *length) {
    const char *end = memmem(in, read, "\r\n\r\n", 4);
    if (!end) return 0;
    *length = 0;
    for (const char *line = in; line < end; line = memchr(line, '\n', end - line + 2) + 1)
        if (!strncasecmp(line, "content-length:", 15)) *length = strtoul(line + 15, NULL, 10);
    return end + 4 - in;
}

static void watch(int poll, int operation, struct connection *of, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(poll, operation, of->fd, &event)) fail("epoll_ctl");
}

/* Sends what the socket takes; watches for more room where that is not all. */
static void push(int poll, struct connection *of) {
    while (of->left) {
        ssize_t sent = send(of->fd, of->rest, of->left, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) fail("send");
            watch(poll, EPOLL_CTL_MOD, of, EPOLLIN | EPOLLOUT);
            return;
        }
        of->rest += sent;
        of->left -= sent;
        if (!of->left) watch(poll, EPOLL_CTL_MOD, of, EPOLLIN);
    }
}

static int connected(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Reads what is there; true once the answer is whole. A server may close a connection that has waited long. */
static int pull(int poll, int port, struct connection *of) {
    for (;;) {
        ssize_t got = recv(of->fd, of->in + of->read, BUFFER - of->read, 0);
        if (got == 0 && of->busy) {
            fprintf(stderr, "the server closed a connection instead of an answer\n");
            exit(1);
        }
        if (got == 0) {
            close(of->fd);
            of->fd = connected(port);
            watch(poll, EPOLL_CTL_ADD, of, EPOLLIN);
            return 0;
        }
        if (got < 0) {
            if (errno == EAGAIN) return 0;
            fail("recv");
        }
        if (of->skip) {
            of->skip -= got;
            if (of->skip) continue;
            of->read = 0;
            return 1;
        }
        of->read += got;
        size_t length, head = head_of(of->in, of->read, &length);
        if (!head) continue;
        int status = atoi(of->in + 9);
        if (status != 200 && !by_status[status < 600 ? status : 0])
            fprintf(stderr, "%.*s\n", (int)(of->read < 600 ? of->read : 600), of->in);
        by_status[status > 0 && status < 600 ? status : 0]++;
        if (of->read - head < length) {
            of->skip = length - (of->read - head);
            of->read = 0;
            continue;
        }
        of->read = 0;
        return 1;
    }
}

static void run(int port, int connections, double rate, const char *path) {
    int file = open(path, O_RDONLY);
    struct stat of_file;
    if (file < 0 || fstat(file, &of_file)) fail(path);
    const char *next = mmap(NULL, of_file.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (next == MAP_FAILED) fail("mmap");
    const char *end = next + of_file.st_size;
    long count = 0;
    for (const char *at = next; at < end; count++) at += 4 + *(const uint32_t *)at;
    latencies = malloc(count * sizeof *latencies);
    int poll = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        all[i] = (struct connection){.fd = connected(port), .in = malloc(BUFFER)};
        watch(poll, EPOLL_CTL_ADD, &all[i], EPOLLIN);
        idle[idle_count++] = i;
    }
    double started = now();
    long sent = 0;
    struct epoll_event events[512];
    while (answered < count) {
        while (idle_count && sent < count) {
            double due = rate ? started + sent / rate : now();
            if (due > now()) break;
            struct connection *of = &all[idle[--idle_count]];
            of->left = *(const uint32_t *)next;
            of->rest = next + 4;
            of->due = due;
            of->busy = 1;
            next = of->rest + of->left;
            sent++;
            push(poll, of);
        }
        int wait = -1;
        if (rate && idle_count && sent < count) {
            double until = started + sent / rate - now();
            wait = until > 0.001 ? (int)(until * 1000) : 0;
        }
        int ready = epoll_wait(poll, events, 512, wait);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *of = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(poll, of);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && pull(poll, port, of)) {
                of->busy = 0;
                latencies[answered++] = now() - of->due;
                idle[idle_count++] = of - all;
            }
        }
    }
    double seconds = now() - started;
    qsort(latencies, count, sizeof *latencies, by_value);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"p50\": %.3f, \"p99\": %.3f, \"most\": %.3f, \"by_status\": {", count, seconds,
           latencies[count / 2] * 1e3, latencies[count * 99 / 100] * 1e3, latencies[count - 1] * 1e3);
    const char *comma = "";
    for (int status = 0; status < 600; status++)
        if (by_status[status]) {
            printf("%s\"%d\": %ld", comma, status, by_status[status]);
            comma = ", ";
        }
    printf("}}\n");
}

static const char ANSWER[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/* Reads a connection's requests and answers those that are whole; false once it was closed. */
static int serve_one(struct connection *of) {
    for (;;) {
        ssize_t got = recv(of->fd, of->in + of->read, BUFFER - of->read, 0);
        if (got == 0) return 0;
        if (got < 0) return errno == EAGAIN;
        if (of->skip) {
            of->skip -= got;
            if (!of->skip && send(of->fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) return 0;
            continue;
        }
        of->read += got;
        size_t length, head = head_of(of->in, of->read, &length);
        if (!head) continue;
        size_t body = of->read - head;
        of->read = 0;
        if (body < length)
            of->skip = length - body;
        else if (send(of->fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0)
            return 0;
    }
}

static void serve(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) fail("listen");
    struct connection door = {.fd = listener};
    watch(poll, EPOLL_CTL_ADD, &door, EPOLLIN);
    struct epoll_event events[512];
    for (;;) {
        int ready = epoll_wait(poll, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *of = events[i].data.ptr;
            if (of != &door) {
                if (serve_one(of)) continue;
                close(of->fd);
                free(of->in);
                free(of);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            struct connection *made = calloc(1, sizeof *made);
            *made = (struct connection){.fd = fd, .in = malloc(BUFFER)};
            watch(poll, EPOLL_CTL_ADD, made, EPOLLIN);
        }
    }
}

int main(int count, char **words) {
    if (count == 6 && !strcmp(words[1], "run") && atoi(words[3]) <= MOST_CONNECTIONS)
        run(atoi(words[2]), atoi(words[3]), atof(words[4]), words[5]);
    else if (count == 3 && !strcmp(words[1], "serve"))
        serve(atoi(words[2]));
    else
        return fprintf(stderr, "load run PORT CONNECTIONS RATE FILE | load serve PORT\n"), 1;
    return 0;
}
