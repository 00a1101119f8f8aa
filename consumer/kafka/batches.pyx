# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reads batches of records from librdkafka without the interpreter; the group stays with confluent-kafka's Consumer.

This module is a plugin of librdkafka, too: it is named in the property `plugin.library.paths`, and so is handed each
client that is made (`rd_kafka_conf_interceptor_add_on_new`). librdkafka's functions are those of the library that
calls it; no header or library is needed to build it, only what librdkafka.h promises to keep.

A thread of its own reads ahead, which never asks for the interpreter's lock: it takes what librdkafka has, a batch at a
time, and copies the values side by side, as counting takes them, while the batch before is counted. Keys, headers
and the rest stay with librdkafka until the next batch is read, since only a dead letter has a use for them.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

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

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void**)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_condattr_init(pthread_condattr_t*)
    int pthread_condattr_setclock(pthread_condattr_t*, int)
    int pthread_cond_init(pthread_cond_t*, pthread_condattr_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_timedwait(pthread_cond_t*, pthread_mutex_t*, const timespec*)
    int pthread_cond_broadcast(pthread_cond_t*)
    int pthread_cond_destroy(pthread_cond_t*)

cdef enum:
    HEAD = 24  # bytes before each value in a row; see orgstats.consumer.counting.packing
    NONE = -1  # length of a value that is null
    AHEAD = 2  # batches that are read while nobody asks for the next one

cdef int64_t NS = 1_000_000_000
cdef int64_t LOOK_NS = 2_000_000  # between two looks for more records
cdef int64_t FIRST_LOOK_NS = 10_000_000  # and while there are none
cdef int64_t GATHER_NS = 20_000_000  # a batch that is not full waits so long for more


cdef struct Group:
    # The records of one partition in a batch, with the place of each in the row, and the row's end.
    void* topic
    int32_t partition
    int64_t records
    int64_t size
    KafkaMessage** messages
    int64_t* places
    char* row


cdef struct Batch:
    # What was read at a time, by group; what is no record comes last.
    int64_t number
    Py_ssize_t count
    Py_ssize_t events
    KafkaMessage** messages
    int64_t* places
    Group* groups
    int32_t group_count
    Batch* next


cdef struct Reader:
    # What the two threads share, under the lock; `changed` is told whenever something does.
    pthread_mutex_t lock
    pthread_cond_t changed
    pthread_t thread
    void* queue
    size_t most
    int permits  # batches that may be read; so it comes to rest if nobody asks
    int held  # how many times it was told to wait
    bint reading
    bint closing
    bint no_memory
    int64_t number  # of the next batch
    Batch* ready  # the oldest first
    int ready_count
    Batch* used  # to be given back to librdkafka


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
cdef class _Row:
    """The bytes of a row, as a buffer."""

    cdef char* at
    cdef int64_t size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.size, 1, flags)

    def __dealloc__(self):
        free(self.at)


@cython.final
cdef class _Held:
    """A batch, until it is given back; then NULL."""

    cdef Batch* batch


@cython.final
cdef class Run:
    """Records of one partition in offset order: a sequence of `Record`, and `row`, what `packed` gives of them.

    It can be looked at until the next batch is read, and then raises RuntimeError.
    """

    cdef _Held _held
    cdef Group* _group
    cdef object _row
    cdef Py_ssize_t _first, _end

    def __len__(self):
        return self._end - self._first

    def __getitem__(self, index):
        cdef Py_ssize_t start, stop, step, at
        if isinstance(index, slice):
            start, stop, step = index.indices(self._end - self._first)
            if step != 1:
                raise ValueError("a run is cut, not thinned out")
            return _run(self._held, self._group, self._row, self._first + start, self._first + max(start, stop))
        at = index
        if at < 0:
            at += self._end - self._first
        if not 0 <= at < self._end - self._first:
            raise IndexError(index)
        self._check()
        return _record(self._group.messages[self._first + at])

    @property
    def row(self):
        """The records as `orgstats.consumer.counting.packing.packed` gives them."""
        self._check()
        return self._row[self._group.places[self._first] : self._group.places[self._end]]

    cdef int _check(self) except -1:
        if self._held.batch == NULL:
            raise RuntimeError("these records were given back: the next batch was read")
        return 0


cdef Run _run(_Held held, Group* group, row, Py_ssize_t first, Py_ssize_t end):
    cdef Run run = Run.__new__(Run)
    run._held, run._group, run._row, run._first, run._end = held, group, row, first, end
    return run


cdef Record _record(KafkaMessage* message):
    cdef Record record = Record.__new__(Record)
    cdef int type = 0
    cdef int64_t timestamp = k_timestamp(message, &type)
    cdef int32_t leader_epoch = k_leader_epoch(message)
    record._offset = message.offset
    record._timestamp = type, timestamp
    record._value = _bytes_or_none(message.payload, message.len)
    record._key = _bytes_or_none(message.key, message.key_len)
    record._headers = _headers(message)
    record._leader_epoch = leader_epoch if leader_epoch >= 0 else None
    return record


cdef _bytes_or_none(const void* at, size_t length):
    return PyBytes_FromStringAndSize(<const char*>at, length) if at != NULL else None


cdef list _headers(KafkaMessage* message):
    cdef void* headers = NULL
    cdef const char* name
    cdef const void* value
    cdef size_t size
    if k_headers(message, &headers):
        return None
    cdef list found = []
    while k_header(headers, len(found), &name, &value, &size) == 0:
        found.append(((<bytes>name).decode("utf-8", "replace"), _bytes_or_none(value, size)))
    return found or None


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
    cdef Reader* _reader  # NULL once it is closed
    cdef _Held _last
    cdef dict _forwarded  # (topic, partition): address of the partition's queue, the first batch that may be of it

    def __init__(self, consumer):
        self._consumer = consumer
        self._forwarded = {}
        self._last = _Held()
        self._client = take_client()
        if self._client == NULL:
            raise LookupError("librdkafka did not hand over its client")
        self._reader = _begin(k_queue_new(self._client))
        if self._reader == NULL:
            raise MemoryError("no thread to read on")

    def __dealloc__(self):
        self.close()

    def hold(self):
        """Read nothing more until `release`; on return nothing is being read."""
        if self._reader != NULL:
            with nogil:
                _hold(self._reader)

    def release(self):
        """Read on."""
        if self._reader != NULL:
            with nogil:
                _release(self._reader)

    def start(self, tps):
        """Read these partitions and no others, and nothing that came before; while it is held, before they are assigned.

        Each assignment undoes the forwarding a moment later, and it is `forward` that does it again. What comes in
        between waits: once it was forwarded, a partition's queue never leads to the Consumer.
        """
        cdef void* old
        if self._reader == NULL:
            return
        old, self._reader.queue = self._reader.queue, k_queue_new(self._client)
        with nogil:
            _forget(self._reader)
        self._drop(list(self._forwarded.keys() - set(tps)))
        for tp, (address, _) in self._forwarded.items():
            self._forwarded[tp] = address, self._reader.number
        self.keep(tps)
        with nogil:
            k_queue_destroy(old)

    def keep(self, tps):
        """Read these partitions and no others, while it is held; those that were read before go on."""
        cdef void* queue
        cdef bytes name
        if self._reader == NULL:
            return
        self._drop(list(self._forwarded.keys() - set(tps)))
        for topic, partition in tps:
            if (topic, partition) not in self._forwarded:
                name = topic.encode()
                queue = k_queue_of(self._client, name, partition)
                if queue == NULL:
                    raise MemoryError(f"no queue for {topic}/{partition}")
                self._forwarded[topic, partition] = <size_t>queue, self._reader.number
        self.forward()

    def forward(self):
        """Forward all partitions again, as has to be done until an assignment has taken effect; costs next to nothing."""
        if self._reader != NULL:
            for address, _ in self._forwarded.values():
                k_forward(<void*><size_t>address, self._reader.queue)

    def close(self):
        """Read nothing more, and give all records back."""
        cdef Reader* reader = self._reader
        cdef Batch* last
        if reader == NULL:
            return
        self._reader = NULL
        last, self._last.batch = self._last.batch, NULL
        with nogil:
            _end(reader)
            _give_back(last)
        self._drop(list(self._forwarded))
        with nogil:
            k_queue_destroy(reader.queue)
        free(reader)

    cdef _drop(self, tps):
        cdef void* queue
        for tp in tps:
            queue = <void*><size_t>self._forwarded.pop(tp)[0]
            k_forward(queue, NULL)
            with nogil:
                k_queue_destroy(queue)

    def read(self, size_t most, double seconds):
        """The next batch, if one comes within `seconds`: runs, by (topic, partition), and what else came.

        That is (topic, partition, librdkafka's code, text, offset): ends of partitions, and errors. What is of a
        partition that is read no longer, or was read before it was started, is left out. The batch after the next one
        has up to `most` records.
        """
        cdef Batch* batch = NULL
        cdef Batch* last
        cdef bint no_memory
        if self._reader == NULL:
            return [], []
        last, self._last.batch = self._last.batch, NULL
        with nogil:
            batch = _next(self._reader, last, most, <int64_t>(seconds * NS), &no_memory)
        if batch == NULL:
            if no_memory:
                raise MemoryError("a batch of records")
            return [], []
        self._last = _Held()
        self._last.batch = batch
        return self._runs(batch), self._events(batch)

    cdef list _runs(self, Batch* batch):
        cdef Group* group
        cdef _Row row
        cdef int32_t i
        runs = []
        for i in range(batch.group_count):
            group = &batch.groups[i]
            tp = k_topic_name(group.topic).decode(), group.partition
            if self._is_of(tp, batch):
                row = _Row.__new__(_Row)
                row.at, group.row, row.size = group.row, NULL, group.size
                runs.append((tp, _run(self._last, group, memoryview(row), 0, group.records)))
        return runs

    cdef list _events(self, Batch* batch):
        cdef KafkaMessage* message
        cdef Py_ssize_t i
        events = []
        for i in range(batch.count - batch.events, batch.count):
            message = batch.messages[i]
            tp = k_topic_name(message.topic).decode() if message.topic != NULL else "", message.partition
            if message.topic == NULL or self._is_of(tp, batch):
                text = k_error_text(message)
                told = text.decode("utf-8", "replace") if text != NULL else ""
                events.append((*tp, message.err, told, message.offset))
        return events

    cdef bint _is_of(self, tp, Batch* batch) except -1:
        known = self._forwarded.get(tp)
        return known is not None and batch.number >= known[1]


cdef Reader* _begin(void* queue) noexcept:
    """A reader that waits for the first permit; NULL without memory or threads."""
    cdef pthread_condattr_t attributes
    cdef Reader* reader = <Reader*>calloc(1, sizeof(Reader))
    if reader == NULL:
        return NULL
    reader.queue = queue
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_mutex_init(&reader.lock, NULL)
    pthread_cond_init(&reader.changed, &attributes)
    if pthread_create(&reader.thread, NULL, _read_ahead, reader):
        k_queue_destroy(queue)
        free(reader)
        return NULL
    return reader


cdef void _end(Reader* reader) noexcept nogil:
    pthread_mutex_lock(&reader.lock)
    reader.closing = True
    pthread_cond_broadcast(&reader.changed)
    pthread_mutex_unlock(&reader.lock)
    pthread_join(reader.thread, NULL)
    _give_back(reader.ready)
    _give_back(reader.used)
    pthread_cond_destroy(&reader.changed)
    pthread_mutex_destroy(&reader.lock)


cdef void _hold(Reader* reader) noexcept nogil:
    pthread_mutex_lock(&reader.lock)
    reader.held += 1
    pthread_cond_broadcast(&reader.changed)
    while reader.reading:
        pthread_cond_wait(&reader.changed, &reader.lock)
    pthread_mutex_unlock(&reader.lock)


cdef void _release(Reader* reader) noexcept nogil:
    pthread_mutex_lock(&reader.lock)
    reader.held -= 1
    pthread_cond_broadcast(&reader.changed)
    pthread_mutex_unlock(&reader.lock)


cdef void _forget(Reader* reader) noexcept nogil:
    """What is ready is not asked for any more."""
    cdef Batch* batch
    pthread_mutex_lock(&reader.lock)
    while reader.ready != NULL:
        batch, reader.ready = reader.ready, reader.ready.next
        batch.next, reader.used = reader.used, batch
    reader.ready_count = 0
    pthread_cond_broadcast(&reader.changed)
    pthread_mutex_unlock(&reader.lock)


cdef Batch* _next(Reader* reader, Batch* last, size_t most, int64_t wait_ns, bint* no_memory) noexcept nogil:
    """Hand over the last batch, and take the next one, NULL if none comes in time."""
    cdef Batch* batch
    cdef timespec until = _after(wait_ns)
    pthread_mutex_lock(&reader.lock)
    if last != NULL:
        last.next, reader.used = reader.used, last
    reader.most = most
    reader.permits = AHEAD
    pthread_cond_broadcast(&reader.changed)
    while reader.ready == NULL and not reader.no_memory:
        if pthread_cond_timedwait(&reader.changed, &reader.lock, &until):
            break
    batch = reader.ready
    if batch != NULL:
        reader.ready = batch.next
        reader.ready_count -= 1
        batch.next = NULL
        pthread_cond_broadcast(&reader.changed)
    no_memory[0] = reader.no_memory
    pthread_mutex_unlock(&reader.lock)
    return batch


cdef timespec _after(int64_t ns) noexcept nogil:
    """The moment after so long, by the clock that is never set: librdkafka's own waits end at one of the other clock."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    ns += now.tv_nsec
    now.tv_sec += ns // NS
    now.tv_nsec = ns % NS
    return now


cdef bint _is_past(const timespec* moment) noexcept nogil:
    cdef timespec now = _after(0)
    return now.tv_sec > moment.tv_sec or (now.tv_sec == moment.tv_sec and now.tv_nsec >= moment.tv_nsec)


cdef void* _read_ahead(void* argument) noexcept nogil:
    """The thread: read while it may, and give back what was used."""
    cdef Reader* reader = <Reader*>argument
    cdef Batch* used
    pthread_mutex_lock(&reader.lock)
    while not reader.closing:
        if reader.used != NULL:
            used, reader.used = reader.used, NULL
            pthread_mutex_unlock(&reader.lock)
            _give_back(used)
            pthread_mutex_lock(&reader.lock)
        elif reader.held or not reader.permits or reader.ready_count >= AHEAD or reader.no_memory:
            pthread_cond_wait(&reader.changed, &reader.lock)
        else:
            reader.permits -= 1
            reader.reading = True
            _read_one(reader)
            reader.reading = False
            pthread_cond_broadcast(&reader.changed)
    pthread_mutex_unlock(&reader.lock)
    return NULL


cdef void _read_one(Reader* reader) noexcept nogil:
    """Gather a batch and make it ready; with the lock, which is not kept meanwhile."""
    cdef size_t most = reader.most, count = 0
    cdef Py_ssize_t more
    cdef timespec until = _after(GATHER_NS), look
    cdef Batch* batch = NULL
    cdef KafkaMessage** messages = <KafkaMessage**>malloc((most + 1) * sizeof(KafkaMessage*))
    if messages == NULL:
        reader.no_memory = True
        return
    while True:
        pthread_mutex_unlock(&reader.lock)
        more = k_consume(reader.queue, 0, messages + count, most - count)
        pthread_mutex_lock(&reader.lock)
        if more > 0:
            if not count:
                until = _after(GATHER_NS)
            count += more
        if count >= most or reader.held or reader.closing or _is_past(&until):
            break
        look = _after(LOOK_NS if count else FIRST_LOOK_NS)
        pthread_cond_timedwait(&reader.changed, &reader.lock, &look)
    if count:
        pthread_mutex_unlock(&reader.lock)
        batch = _batch_of(messages, count)
        pthread_mutex_lock(&reader.lock)
        if batch == NULL:
            reader.no_memory = True
        else:
            _make_ready(reader, batch)
    free(messages)


cdef void _make_ready(Reader* reader, Batch* batch) noexcept nogil:
    cdef Batch** last = &reader.ready
    while last[0] != NULL:
        last = &last[0].next
    last[0] = batch
    batch.number = reader.number
    reader.number += 1
    reader.ready_count += 1


cdef void _give_back(Batch* batch) noexcept nogil:
    """This batch, and those behind it."""
    cdef Batch* next
    cdef Py_ssize_t i
    while batch != NULL:
        next = batch.next
        for i in range(batch.count):
            k_destroy(batch.messages[i])
        for i in range(batch.group_count):
            free(batch.groups[i].row)
        free(batch.messages)
        free(batch.places)
        free(batch.groups)
        free(batch)
        batch = next


cdef Batch* _batch_of(KafkaMessage** messages, Py_ssize_t count) noexcept nogil:
    """The messages by group, with their rows. Without memory it is NULL, and they are given back."""
    cdef Py_ssize_t i
    cdef Batch* batch = <Batch*>calloc(1, sizeof(Batch))
    cdef int32_t* group_of = <int32_t*>malloc(count * sizeof(int32_t))
    if batch == NULL or group_of == NULL or not _arrange(batch, messages, count, group_of):
        for i in range(count):
            k_destroy(messages[i])
        if batch != NULL:
            batch.count = 0
        _give_back(batch)
        batch = NULL
    free(group_of)
    return batch


cdef bint _arrange(Batch* batch, KafkaMessage** messages, Py_ssize_t count, int32_t* group_of) noexcept nogil:
    """Put the messages in the batch; false without memory."""
    cdef Py_ssize_t i, message_at = 0, place_at = 0
    cdef Group* group
    if not _group(batch, messages, count, group_of):
        return False
    batch.messages = <KafkaMessage**>malloc(count * sizeof(KafkaMessage*))
    batch.places = <int64_t*>malloc((count + batch.group_count) * sizeof(int64_t) + 1)
    if batch.messages == NULL or batch.places == NULL:
        return False
    for i in range(batch.group_count):
        group = &batch.groups[i]
        group.messages, group.places = batch.messages + message_at, batch.places + place_at
        group.row = <char*>malloc(group.size)
        if group.row == NULL:
            return False
        message_at += group.records
        place_at += group.records + 1
        group.records = group.size = group.places[0] = 0  # counted once more
    for i in range(count):
        if group_of[i] < 0:
            batch.messages[message_at] = messages[i]
            message_at += 1
        else:
            _append(&batch.groups[group_of[i]], messages[i])
    batch.count = count
    return True


cdef bint _group(Batch* batch, KafkaMessage** messages, Py_ssize_t count, int32_t* group_of) noexcept nogil:
    """Say of each message to which group it belongs, -1 for one that is no record; false without memory."""
    cdef int32_t room = 0, last = 0
    cdef Py_ssize_t i
    cdef KafkaMessage* message
    cdef Group* groups = NULL
    for i in range(count):
        message = messages[i]
        group_of[i] = -1
        if message.err:
            batch.events += 1
            continue
        if last >= batch.group_count or not _is_in(message, &groups[last]):
            last = 0
            while last < batch.group_count and not _is_in(message, &groups[last]):
                last += 1
        if last == batch.group_count:
            if last == room:
                room = 2 * room + 8
                more = realloc(groups, room * sizeof(Group))
                if more == NULL:
                    return False
                groups = batch.groups = <Group*>more
            groups[last] = Group(message.topic, message.partition, 0, 0, NULL, NULL, NULL)
            batch.group_count += 1
        group_of[i] = last
        groups[last].records += 1
        groups[last].size += HEAD + 1 + (message.len if message.payload != NULL else 0)
    return True


cdef inline bint _is_in(const KafkaMessage* message, const Group* group) noexcept nogil:
    return group.topic == message.topic and group.partition == message.partition


cdef inline void _append(Group* group, KafkaMessage* message) noexcept nogil:
    """Copy a record to its group, whose row has room for it."""
    cdef char* to = group.row + group.size
    cdef int64_t head[3]
    cdef int type = 0
    head[0] = message.offset
    head[1] = k_timestamp(message, &type)
    head[2] = <int64_t>message.len if message.payload != NULL else NONE
    memcpy(to, head, HEAD)
    to += HEAD
    if head[2] > 0:
        memcpy(to, message.payload, head[2])
        to += head[2]
    to[0] = 0
    group.messages[group.records] = message
    group.size += HEAD + 1 + max(head[2], 0)
    group.records += 1
    group.places[group.records] = group.size
