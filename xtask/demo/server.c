/* A made-up server, for pictures: a cache that fills up, requests that are parsed and answered, and sessions of which every
 * third is never closed. It runs for as many seconds as its argument says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CACHE_SLOTS = 160, OPEN_SESSIONS = 64 };

struct session {
    char *user;
    char *token;
    char *history;
};

static char *cache[CACHE_SLOTS];
static struct session *sessions[OPEN_SESSIONS];
char *tables[4];

static char *copy_text(const char *text, size_t size) {
    char *copy = malloc(size);
    if (copy != NULL)
        snprintf(copy, size, "%s", text);
    return copy;
}

static char *render_template(int page) {
    char *body = malloc(24 * 1024);
    if (body != NULL)
        memset(body, 'a' + page % 26, 24 * 1024);
    return body;
}

static char *cache_page(int page) {
    int slot = page % CACHE_SLOTS;
    if (cache[slot] == NULL)
        cache[slot] = render_template(page);
    return cache[slot];
}

static struct session *open_session(int number) {
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->user = copy_text("somebody", 64 + number % 32);
    session->token = copy_text("0123456789abcdef", 512);
    session->history = copy_text("/", 4096);
    return session;
}

static void close_session(struct session *session) {
    if (session == NULL)
        return;
    free(session->user);
    free(session->token);
    free(session->history);
    free(session);
}

/* Every third is replaced, and nobody closes it. */
static void login(int number) {
    struct session **place = &sessions[number % OPEN_SESSIONS];
    if (number % 3 != 0)
        close_session(*place);
    *place = open_session(number);
}

static char *parse_headers(int number) {
    char *headers = malloc(2048);
    if (headers != NULL)
        snprintf(headers, 2048, "Cookie: %d", number);
    return headers;
}

static char *parse_body(int number) {
    return calloc(1, 8192 + number % 4096);
}

static void write_log(int number) {
    char *line = copy_text("GET /", 128 + number % 64);
    /* The last lines of each hundred are kept for ever. */
    if (number % 100 < 80)
        free(line);
}

/* What a server does beside allocating. */
static unsigned answer(const char *page) {
    unsigned sum = 0;
    for (int round = 0; page != NULL && round < 16; round++)
        for (int place = 0; place < 24 * 1024; place++)
            sum = 31 * sum + (unsigned char)page[place];
    return sum;
}

static void handle_request(int number) {
    char *headers = parse_headers(number);
    char *body = parse_body(number);
    if (number % 5 == 0)
        login(number / 5);
    answer(cache_page(number / 4));
    write_log(number);
    free(body);
    free(headers);
}

static void load_configuration(void) {
    for (int table = 0; table < 4; table++)
        tables[table] = calloc(1024, 96 + 16 * table);
}

static void serve(int seconds) {
    time_t end = time(NULL) + seconds;
    for (int number = 0; time(NULL) < end; number++) {
        handle_request(number);
        usleep(5 * 1000);
    }
}

int main(int argc, char **argv) {
    load_configuration();
    serve(argc > 1 ? atoi(argv[1]) : 20);
    return 0;
}
