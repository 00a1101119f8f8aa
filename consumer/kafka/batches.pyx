# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reads batches of records from librdkafka without the interpreter; the group stays with confluent-kafka's Consumer.

This module is a plugin of librdkafka, too: it is named in the property `plugin.library.paths`, and so is handed each
client that is made (`rd_kafka_conf_interceptor_add_on_new`). librdkafka's functions are those of the library that
calls it; no header or library is needed to build it, only what librdkafka.h promises to keep.

Nothing of librdkafka's outlives `Batches.read`: records are copied, side by side as counting takes them, and given back
before it returns.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, strlen

cdef extern from *:
    """
    #include <dlfcn.h>

    /* rd_kafka_message_t */
    typedef struct {
        int err;
        void *topic;
        int32_t partition;
        void *payload;
        size_t len;
        void *key;
        size_t key_len;
        int64_t offset;
        void *private_;
    } KafkaMessage;

    static struct {
        int (*on_new)(void *conf, const char *name, void *callback, void *opaque);
        int (*version)(void);
        void *(*queue_new)(void *client);
        void *(*queue_of)(void *client, const char *topic, int32_t partition);
        void (*forward)(void *from, void *to);
        void (*queue_destroy)(void *queue);
        ptrdiff_t (*consume)(void *queue, int timeout_ms, KafkaMessage **messages, size_t most);
        void (*destroy)(KafkaMessage *message);
        const char *(*topic_name)(const void *topic);
        const char *(*error_text)(const KafkaMessage *message);
        int64_t (*timestamp)(const KafkaMessage *message, int *type);
        int32_t (*leader_epoch)(const KafkaMessage *message);
        int (*headers)(const KafkaMessage *message, void **headers);
        int (*header)(const void *headers, size_t at, const char **name, const void **value, size_t *size);
    } kafka;

    static __thread void *newest_client; /* of this thread, until it is taken */
    static int functions_missing = -1;

    static void find_functions(const void *caller) {
        Dl_info library;
        void *handle;
        size_t i;
        const struct { void *to; const char *name; } functions[] = {
            {&kafka.on_new, "rd_kafka_conf_interceptor_add_on_new"},
            {&kafka.version, "rd_kafka_version"},
            {&kafka.queue_new, "rd_kafka_queue_new"},
            {&kafka.queue_of, "rd_kafka_queue_get_partition"},
            {&kafka.forward, "rd_kafka_queue_forward"},
            {&kafka.queue_destroy, "rd_kafka_queue_destroy"},
            {&kafka.consume, "rd_kafka_consume_batch_queue"},
            {&kafka.destroy, "rd_kafka_message_destroy"},
            {&kafka.topic_name, "rd_kafka_topic_name"},
            {&kafka.error_text, "rd_kafka_message_errstr"},
            {&kafka.timestamp, "rd_kafka_message_timestamp"},
            {&kafka.leader_epoch, "rd_kafka_message_leader_epoch"},
            {&kafka.headers, "rd_kafka_message_headers"},
            {&kafka.header, "rd_kafka_header_get_all"},
        };
        functions_missing = 1;
        if (!dladdr(caller, &library) || !(handle = dlopen(library.dli_fname, RTLD_NOW | RTLD_NOLOAD)))
            return;
        functions_missing = 0;
        for (i = 0; i < sizeof functions / sizeof *functions; i++) {
            void *found = dlsym(handle, functions[i].name);
            functions_missing |= !found;
            memcpy(functions[i].to, &found, sizeof found);
        }
    }

    static int client_made(void *client, const void *conf, void *opaque, char *text, size_t size) {
        (void)conf; (void)opaque; (void)text; (void)size;
        newest_client = client;
        return 0;
    }

    /* librdkafka calls this by its name. */
    __attribute__((visibility("default"))) int conf_init(void *conf, void **opaque, char *text, size_t size) {
        (void)opaque; (void)text; (void)size;
        if (functions_missing < 0)
            find_functions(__builtin_return_address(0));
        return functions_missing ? 0 : kafka.on_new(conf, "orgstats", (void *)client_made, NULL);
    }

    static void *take_client(void) {
        void *client = newest_client;
        newest_client = NULL;
        return client;
    }
    """
    ctypedef struct KafkaMessage:
        int err
        void* topic
        int32_t partition
        void* payload
        size_t len
        void* key
        size_t key_len
        int64_t offset

    void* take_client() nogil
    void* k_queue_new "kafka.queue_new"(void*) nogil
    void* k_queue_of "kafka.queue_of"(void*, const char*, int32_t) nogil
    void k_forward "kafka.forward"(void*, void*) nogil
    void k_queue_destroy "kafka.queue_destroy"(void*) nogil
    Py_ssize_t k_consume "kafka.consume"(void*, int, KafkaMessage**, size_t) nogil
    void k_destroy "kafka.destroy"(KafkaMessage*) nogil
    const char* k_topic_name "kafka.topic_name"(const void*) nogil
    const char* k_error_text "kafka.error_text"(const KafkaMessage*) nogil
    int64_t k_timestamp "kafka.timestamp"(const KafkaMessage*, int*) nogil
    int32_t k_leader_epoch "kafka.leader_epoch"(const KafkaMessage*) nogil
    int k_headers "kafka.headers"(const KafkaMessage*, void**) nogil
    int k_header "kafka.header"(const void*, size_t, const char**, const void**, size_t*) nogil

cdef enum:
    HEAD = 24  # bytes before each value in a row; see orgstats.consumer.counting.packing
    OLDEST = 0x02010000  # librdkafka 2.1 has leader epochs
    NONE = -1  # length of a value, key or header that is null


cdef struct Place:
    # Where a record's parts are: its head in the row, its key and headers beside.
    int64_t row
    int64_t beside
    int32_t key_length
    int32_t headers
    int32_t leader_epoch
    int8_t timestamp_type


cdef struct Bytes:
    char* at
    int64_t size
    int64_t room


cdef struct Group:
    # The records of one partition in a batch.
    void* topic
    int32_t partition
    int64_t records
    int64_t size
    Place* places
    char* row
    Bytes beside


@cython.final
cdef class Record:
    """A record on its own, like confluent-kafka's Message."""

    cdef int64_t _offset
    cdef bytes _value
    cdef bytes _key
    cdef tuple _timestamp
    cdef list _headers
    cdef object _leader_epoch

    def offset(self):
        return self._offset

    def value(self):
        return self._value

    def key(self):
        return self._key

    def timestamp(self):
        return self._timestamp

    def headers(self):
        return self._headers

    def leader_epoch(self):
        return self._leader_epoch


@cython.final
cdef class _Places:
    """What runs of the same records share."""

    cdef Place* at
    cdef char* beside

    def __dealloc__(self):
        free(self.at)
        free(self.beside)


@cython.final
cdef class Run:
    """Records of one partition in offset order: a sequence of `Record`, and `row`, what `packed` gives of them."""

    cdef bytes _row
    cdef _Places _places
    cdef Py_ssize_t _first, _end

    def __len__(self):
        return self._end - self._first

    def __getitem__(self, index):
        cdef Py_ssize_t start, stop, step, at
        if isinstance(index, slice):
            start, stop, step = index.indices(self._end - self._first)
            if step != 1:
                raise ValueError("a run is cut, not thinned out")
            return _run(self._row, self._places, self._first + start, self._first + max(start, stop))
        at = index
        if at < 0:
            at += self._end - self._first
        if not 0 <= at < self._end - self._first:
            raise IndexError(index)
        return self._record(&self._places.at[self._first + at])

    @property
    def row(self):
        """The records as `orgstats.consumer.counting.packing.packed` gives them."""
        if self._first == self._end:
            return b""
        cdef int64_t begin = self._places.at[self._first].row
        cdef int64_t end = self._places.at[self._end].row
        if begin == 0 and end == len(self._row):
            return self._row
        return self._row[begin:end]

    cdef Record _record(self, Place* place):
        cdef Record record = Record.__new__(Record)
        cdef int64_t head[3]
        cdef const char* at = PyBytes_AS_STRING(self._row) + place.row
        cdef const char* beside = self._places.beside + place.beside
        memcpy(head, at, HEAD)
        record._offset = head[0]
        record._timestamp = place.timestamp_type, head[1]
        record._value = _bytes_or_none(at + HEAD, head[2])
        record._key = _bytes_or_none(beside, place.key_length)
        record._headers = _headers(beside + max(place.key_length, 0), place.headers) if place.headers else None
        record._leader_epoch = place.leader_epoch if place.leader_epoch >= 0 else None
        return record


cdef Run _run(bytes row, _Places places, Py_ssize_t first, Py_ssize_t end):
    cdef Run run = Run.__new__(Run)
    run._row, run._places, run._first, run._end = row, places, first, end
    return run


cdef _bytes_or_none(const char* at, int64_t length):
    return None if length == NONE else PyBytes_FromStringAndSize(at, length)


cdef list _headers(const char* at, int32_t count):
    cdef list found = []
    cdef int64_t lengths[2]
    for _ in range(count):
        memcpy(lengths, at, sizeof(lengths))
        at += sizeof(lengths)
        name = at[: lengths[0]].decode("utf-8", "replace")
        at += lengths[0]
        found.append((name, _bytes_or_none(at, lengths[1])))
        at += max(lengths[1], 0)
    return found


@cython.final
@cython.no_gc_clear
cdef class Batches:
    """Records of the partitions that are forwarded to a queue of our own, for one thread.

    Made on the thread that has just made the Consumer, with this module in its `plugin.library.paths`; raises
    LookupError where that gave us no client. `close` comes before the Consumer's, which waits for it otherwise; after
    it nothing does anything.
    """

    cdef object _consumer  # it must not be destroyed before our queues are, also by the garbage collector
    cdef void* _client
    cdef void* _queue
    cdef KafkaMessage** _messages
    cdef int32_t* _group_of
    cdef size_t _room
    cdef dict _forwarded  # (topic, partition): address of the partition's queue

    def __init__(self, consumer):
        self._consumer = consumer
        self._forwarded = {}
        self._client = take_client()
        if self._client == NULL:
            raise LookupError("librdkafka did not hand over its client")
        self._queue = k_queue_new(self._client)

    def __dealloc__(self):
        self.close()
        free(self._messages)
        free(self._group_of)

    def start(self, tps):
        """Read these partitions and no others, and nothing that came before; called before they are assigned.

        Each assignment undoes the forwarding a moment later, and it is `forward` that does it again. What comes in
        between waits: once it was forwarded, a partition's queue never leads to the Consumer.
        """
        cdef void* old = self._queue
        if old == NULL:
            return
        self._queue = k_queue_new(self._client)
        self._drop(self._forwarded.keys() - set(tps))
        self.keep(tps)
        k_queue_destroy(old)

    def keep(self, tps):
        """Read these partitions and no others; those that were read before go on."""
        cdef void* queue
        cdef bytes name
        if self._queue == NULL:
            return
        self._drop(self._forwarded.keys() - set(tps))
        for topic, partition in tps:
            if (topic, partition) not in self._forwarded:
                name = topic.encode()
                queue = k_queue_of(self._client, name, partition)
                if queue == NULL:
                    raise MemoryError(f"no queue for {topic}/{partition}")
                self._forwarded[topic, partition] = <size_t>queue
        self.forward()

    def forward(self):
        """Forward all partitions again, as has to be done until an assignment has taken effect; costs next to nothing."""
        for address in self._forwarded.values():
            k_forward(<void*><size_t>address, self._queue)

    def close(self):
        """Read nothing more."""
        if self._queue != NULL:
            self._drop(list(self._forwarded))
            k_queue_destroy(self._queue)
            self._queue = NULL

    cdef _drop(self, tps):
        cdef void* queue
        for tp in list(tps):
            queue = <void*><size_t>self._forwarded.pop(tp)
            k_forward(queue, NULL)
            with nogil:
                k_queue_destroy(queue)

    def read(self, size_t most):
        """Up to `most` records of those that are there: runs, by (topic, partition), and what else came.

        That is (topic, partition, librdkafka's code, text, offset): ends of partitions, and errors. What is of a
        partition that is read no longer is left out.
        """
        cdef Py_ssize_t count
        if self._queue == NULL:
            return [], []
        self._make_room(most)
        with nogil:
            count = k_consume(self._queue, 0, self._messages, most)
        return self._taken(max(count, 0))

    cdef _make_room(self, size_t most):
        if most <= self._room:
            return
        messages = realloc(self._messages, most * sizeof(KafkaMessage*))
        if messages != NULL:
            self._messages = <KafkaMessage**>messages
        group_of = realloc(self._group_of, most * sizeof(int32_t))
        if group_of != NULL:
            self._group_of = <int32_t*>group_of
        if messages == NULL or group_of == NULL:
            raise MemoryError
        self._room = most

    cdef _taken(self, Py_ssize_t count):
        cdef Group* groups = NULL
        cdef int32_t used = 0
        cdef bint done = False
        cdef Py_ssize_t i
        try:
            with nogil:
                used = _grouped(self._messages, count, self._group_of, &groups)
            if used < 0:
                raise MemoryError
            events = [self._event(self._messages[i]) for i in range(count) if self._group_of[i] < 0]
            rows = []
            for i in range(used):
                row = PyBytes_FromStringAndSize(NULL, groups[i].size)
                groups[i].row = PyBytes_AS_STRING(row)
                rows.append(row)
            with nogil:
                done = _copied(self._messages, count, self._group_of, groups)
            if not done:
                raise MemoryError
            runs = []
            for i in range(used):
                tp = k_topic_name(groups[i].topic).decode(), groups[i].partition
                places = _Places.__new__(_Places)
                (<_Places>places).at, groups[i].places = groups[i].places, NULL
                (<_Places>places).beside, groups[i].beside.at = groups[i].beside.at, NULL
                if tp in self._forwarded:
                    runs.append((tp, _run(rows[i], places, 0, groups[i].records)))
            return runs, [event for event in events if event is not None]
        finally:
            with nogil:
                for i in range(count):
                    k_destroy(self._messages[i])
                for i in range(used):
                    free(groups[i].places)
                    free(groups[i].beside.at)
                free(groups)

    cdef _event(self, KafkaMessage* message):
        topic = k_topic_name(message.topic).decode() if message.topic != NULL else ""
        if topic and (topic, message.partition) not in self._forwarded:
            return None
        text = k_error_text(message)
        return topic, message.partition, message.err, text.decode("utf-8", "replace") if text != NULL else "", message.offset


cdef int32_t _grouped(KafkaMessage** messages, Py_ssize_t count, int32_t* group_of, Group** groups) noexcept nogil:
    """Say of each message to which group it belongs, -1 for one that is no record. Gives how many groups; -1 without memory."""
    cdef int32_t used = 0, room = 0, last = 0, group
    cdef Py_ssize_t i
    cdef KafkaMessage* message
    for i in range(count):
        message = messages[i]
        group_of[i] = -1
        if message.err:
            continue
        if last >= used or groups[0][last].topic != message.topic or groups[0][last].partition != message.partition:
            last = 0
            while last < used and (
                groups[0][last].topic != message.topic or groups[0][last].partition != message.partition
            ):
                last += 1
        if last == used:
            if used == room:
                room = 2 * room + 8
                more = realloc(groups[0], room * sizeof(Group))
                if more == NULL:
                    return -1
                groups[0] = <Group*>more
            groups[0][last] = Group(message.topic, message.partition, 0, 0, NULL, NULL, Bytes(NULL, 0, 0))
            used += 1
        group_of[i] = last
        groups[0][last].records += 1
        groups[0][last].size += HEAD + 1 + (message.len if message.payload != NULL else 0)
    return used


cdef bint _copied(KafkaMessage** messages, Py_ssize_t count, int32_t* group_of, Group* groups) noexcept nogil:
    """Copy each record to its group, whose row has room for it; false without memory."""
    cdef Py_ssize_t i
    cdef Group* group
    cdef KafkaMessage* message
    cdef Place* place
    cdef char* to
    cdef int64_t head[3]
    cdef int type
    for i in range(count):
        if group_of[i] < 0:
            continue
        group, message = &groups[group_of[i]], messages[i]
        if group.places == NULL:
            group.places = <Place*>malloc((group.records + 1) * sizeof(Place))
            if group.places == NULL:
                return False
            group.records = group.size = 0  # counted once more
        type = 0
        head[0] = message.offset
        head[1] = k_timestamp(message, &type)
        head[2] = <int64_t>message.len if message.payload != NULL else NONE
        place = &group.places[group.records]
        place.row = group.size
        place.beside = group.beside.size
        place.timestamp_type = <int8_t>type
        place.leader_epoch = k_leader_epoch(message)
        place.key_length = <int32_t>message.key_len if message.key != NULL else NONE
        if not _add(&group.beside, message.key, max(place.key_length, 0)):
            return False
        place.headers = _add_headers(&group.beside, message)
        if place.headers < 0:
            return False
        to = group.row + group.size
        memcpy(to, head, HEAD)
        to += HEAD
        if head[2] > 0:
            memcpy(to, message.payload, head[2])
            to += head[2]
        to[0] = 0
        group.size += HEAD + 1 + max(head[2], 0)
        group.records += 1
        group.places[group.records].row = group.size
    return True


cdef int32_t _add_headers(Bytes* bytes, KafkaMessage* message) noexcept nogil:
    """Add each header with its lengths before it; gives how many, -1 without memory."""
    cdef void* headers = NULL
    cdef const char* name
    cdef const void* value
    cdef size_t size
    cdef int32_t count = 0
    cdef int64_t lengths[2]
    if k_headers(message, &headers):
        return 0
    while k_header(headers, count, &name, &value, &size) == 0:
        lengths[0] = strlen(name)
        lengths[1] = <int64_t>size if value != NULL else NONE
        if not (
            _add(bytes, lengths, sizeof(lengths))
            and _add(bytes, name, lengths[0])
            and _add(bytes, value, max(lengths[1], 0))
        ):
            return -1
        count += 1
    return count


cdef bint _add(Bytes* bytes, const void* what, int64_t size) noexcept nogil:
    cdef int64_t room
    if bytes.size + size > bytes.room:
        room = 2 * bytes.room + size + 256
        more = realloc(bytes.at, room)
        if more == NULL:
            return False
        bytes.at, bytes.room = <char*>more, room
    if size > 0:
        memcpy(bytes.at + bytes.size, what, size)
        bytes.size += size
    return True
