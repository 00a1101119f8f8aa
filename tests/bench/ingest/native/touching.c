/* The baseline: librdkafka's batches, each record given back untouched. The library is the one that confluent-kafka
 * brings, named by the first argument; so no header is needed, and nobody has another version. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
} Message;

#define FUNCTION(result, name, ...) static result (*name)(__VA_ARGS__)
FUNCTION(void *, rd_kafka_conf_new, void);
FUNCTION(int, rd_kafka_conf_set, void *, const char *, const char *, char *, size_t);
FUNCTION(void *, rd_kafka_new, int, void *, char *, size_t);
FUNCTION(int, rd_kafka_poll_set_consumer, void *);
FUNCTION(void *, rd_kafka_topic_partition_list_new, int);
FUNCTION(void *, rd_kafka_topic_partition_list_add, void *, const char *, int32_t);
FUNCTION(int, rd_kafka_subscribe, void *, void *);
FUNCTION(void *, rd_kafka_queue_get_consumer, void *);
FUNCTION(ptrdiff_t, rd_kafka_consume_batch_queue, void *, int, Message **, size_t);
FUNCTION(void, rd_kafka_message_destroy, Message *);
enum { CONSUMER = 1, MOST = 10000 };

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void find(const char *path) {
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        fail(path, dlerror());
#define FIND(name) \
    if (!(*(void **)&name = dlsym(library, #name))) \
        fail(path, #name)
    FIND(rd_kafka_conf_new);
    FIND(rd_kafka_conf_set);
    FIND(rd_kafka_new);
    FIND(rd_kafka_poll_set_consumer);
    FIND(rd_kafka_topic_partition_list_new);
    FIND(rd_kafka_topic_partition_list_add);
    FIND(rd_kafka_subscribe);
    FIND(rd_kafka_queue_get_consumer);
    FIND(rd_kafka_consume_batch_queue);
    FIND(rd_kafka_message_destroy);
}

static void *configured(void) {
    char why[512], *line, *value, *rest, *properties = strdup(getenv("BENCH_PROPERTIES"));
    void *conf = rd_kafka_conf_new();
    for (line = strtok_r(properties, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        value = strchr(line, '=');
        *value++ = 0;
        if (rd_kafka_conf_set(conf, line, value, why, sizeof why))
            fail(line, why);
    }
    free(properties);
    return conf;
}

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    static Message *messages[MOST];
    char why[512];
    void *client, *topics, *queue;
    long taken = 0, wanted = atol(getenv("BENCH_RECORDS"));
    double began = 0, began_cpu = 0;
    ptrdiff_t i, count;
    if (argc != 2)
        fail("usage", "touching LIBRDKAFKA");
    find(argv[1]);
    if (!(client = rd_kafka_new(CONSUMER, configured(), why, sizeof why)))
        fail("rd_kafka_new", why);
    rd_kafka_poll_set_consumer(client);
    topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, getenv("BENCH_TOPIC"), -1);
    if (rd_kafka_subscribe(client, topics))
        fail("rd_kafka_subscribe", "refused");
    queue = rd_kafka_queue_get_consumer(client);
    while (taken < wanted) {
        count = rd_kafka_consume_batch_queue(queue, 100, messages, MOST);
        if (count > 0 && !taken) {
            began = seconds(CLOCK_MONOTONIC);
            began_cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        }
        for (i = 0; i < count; i++) {
            taken += !messages[i]->err;
            rd_kafka_message_destroy(messages[i]);
        }
    }
    printf("{\"records\": %ld, \"seconds\": %f, \"cpu_seconds\": %f}\n", taken, seconds(CLOCK_MONOTONIC) - began,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - began_cpu);
    return 0;
}
