# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Counts records without decoding each: those of one kind differ only in what no count depends on.

The kind of a record is its text without the values that are not counted, and with no more of its time than the ten
seconds it lies in. So the first of a kind, decoded with all care, speaks for the others. Only plain text has a kind:
a flat object of strings without escapes in printable ASCII, integers of up to 18 digits, and nulls, whose time is
spelled in UTC with a Z. Any other record is odd, and left to the caller.

Nothing here reads beyond a value: `packed` puts a 0 behind its bytes, and no step goes over a 0.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from msgspec.structs import fields

from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import BUCKET_SECONDS

cdef enum:
    LONGEST = 1000  # a longer record is odd, so that a kind has a place on the stack
    MOST_FIELDS = 32
    MOST_DIGITS = 18  # of an id or a quantity; with one more it might be out of bounds
    TEXT = 1
    DIGIT = 2

cdef uint8_t CLASS[256]
cdef int _byte
for _byte in range(256):
    CLASS[_byte] = TEXT if 0x20 <= _byte < 0x7F and _byte not in b'"\\' else 0
for _byte in b"0123456789":
    CLASS[_byte] |= DIGIT

_NAMES = [field.encode_name.encode() for field in fields(Event)]  # in the order producers write them
_COUNTED = {b"org_id", b"project_id", b"outcome", b"reason", b"category", b"quantity"}
cdef int FIELDS = len(_NAMES)
if FIELDS > MOST_FIELDS:
    raise RuntimeError(f"orgstats.consumer.counting.fast_path has room for {MOST_FIELDS} fields, Event has {FIELDS}")
cdef int TIMESTAMP = _NAMES.index(b"timestamp")
cdef struct Field:
    const uint8_t* name
    Py_ssize_t length
    bint counted
cdef Field FIELD[MOST_FIELDS]
for _byte in range(FIELDS):
    FIELD[_byte] = Field(<const uint8_t*><const char*>_NAMES[_byte], len(_NAMES[_byte]), _NAMES[_byte] in _COUNTED)

cdef const char* TIME = b"0000-00-00T00:00:00"
cdef enum:
    TIME_LENGTH = 19
    TEN_SECONDS = 18  # characters of a time that say in which ten seconds it lies
cdef int64_t WIDTH = BUCKET_SECONDS
cdef enum:
    HEAD = 24  # bytes before each value in what `packed` gives


def packed(run):
    """Records in a row: offset, timestamp, length of the value (-1 without one), in 8 bytes each; the value; a 0."""
    cdef list values = [record.value() for record in run]
    cdef Py_ssize_t size = 0, at = 0
    cdef int64_t head[3]
    cdef char* to
    for value in values:
        size += HEAD + 1 + (PyBytes_GET_SIZE(value) if value is not None else 0)
    row = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(row)
    for record in run:
        value = values[at]
        head[0] = record.offset()
        head[1] = record.timestamp()[1]
        head[2] = PyBytes_GET_SIZE(value) if value is not None else -1
        memcpy(to, head, HEAD)
        to += HEAD
        if head[2] > 0:
            memcpy(to, PyBytes_AS_STRING(value), head[2])
            to += head[2]
        to[0] = 0
        to += 1
        at += 1
    return row


cdef class FastPath:
    """Kinds of records, and how many of each were seen since they were last taken.

    `max_age_seconds` and `max_ahead_seconds` are those of `orgstats.consumer.counting.decode.AgeLimits`.
    """

    cdef dict _kinds
    cdef int64_t _max_age, _max_ahead

    def __init__(self, int64_t max_age_seconds, int64_t max_ahead_seconds):
        self._kinds = {}
        self._max_age = max_age_seconds
        self._max_ahead = max_ahead_seconds

    def count(self, bytes row, first, list odd):
        """Count `packed` records; the places of the odd ones are added to `odd`, in order.

        `first(value)` is asked at the first record of a kind what all of them are: (start of the bucket, anything),
        or None for a kind whose records are odd. Gives the highest Kafka timestamp in milliseconds, -1 if there is none.
        """
        cdef uint8_t text[LONGEST]
        cdef Py_ssize_t at = 0, length
        cdef int64_t head[3]
        cdef int64_t highest = -1
        cdef const char* value = PyBytes_AS_STRING(row)
        cdef const char* end = value + PyBytes_GET_SIZE(row)
        cdef Kind kind
        while value < end:
            memcpy(head, value, HEAD)
            value += HEAD
            highest = max(highest, head[1])
            length = _kind(<const uint8_t*>value, head[2], text) if 0 < head[2] <= LONGEST else 0
            if length:
                name = PyBytes_FromStringAndSize(<char*>text, length)
                kind = self._kinds.get(name)
                if kind is None:
                    kind = self._kinds[name] = _new_kind(first(PyBytes_FromStringAndSize(value, head[2])))
                if kind.what is not None and self._in_bounds(kind.bucket, head[1]):
                    kind.events += 1
                else:
                    odd.append(at)
            else:
                odd.append(at)
            value += max(head[2], 0) + 1
            at += 1
        return highest

    def take(self):
        """(what `first` said, records) of each kind that has any; nothing is kept."""
        kinds, self._kinds = self._kinds, {}
        return [((<Kind>kind).what, (<Kind>kind).events) for kind in kinds.values() if (<Kind>kind).events]

    cdef inline bint _in_bounds(self, int64_t bucket, int64_t ms) noexcept:
        """Whether each time in the bucket is within the limits of a Kafka timestamp; so a record without one is odd."""
        cdef int64_t second = ms // 1000
        return second - self._max_age < bucket <= second + self._max_ahead - WIDTH


cdef class Kind:
    cdef object what
    cdef int64_t bucket
    cdef uint64_t events


cdef Kind _new_kind(what):
    cdef Kind kind = Kind.__new__(Kind)
    if what is not None:
        kind.bucket, kind.what = what
    return kind


cdef Py_ssize_t _kind(const uint8_t* at, Py_ssize_t size, uint8_t* text) noexcept nogil:
    """Write the kind of the record that begins at `at`, and give its length; 0 for an odd one.

    For each field it has a byte above ASCII, then the value or only its type; a field that nobody knows is left out.
    So it is shorter than the record, and no two kinds have the same text.
    """
    cdef const uint8_t* begin = at
    cdef const uint8_t* end
    cdef uint8_t* out = text
    cdef int field = -1
    if at[0] != c"{":
        return 0
    while True:
        at = _after_spaces(at + 1)
        end = _string_end(at)
        if end == NULL or end[0] != c":":
            return 0
        field = _field(at + 1, end - at - 2, field)
        at = _after_spaces(end + 1)
        end = _time_end(at) if field == TIMESTAMP else _value_end(at)
        if end == NULL:
            return 0
        if field >= 0:
            out[0] = 0x80 + field
            out += 1
            if field == TIMESTAMP:
                memcpy(out, at + 1, TEN_SECONDS)
                out += TEN_SECONDS
            elif FIELD[field].counted:
                memcpy(out, at, end - at)
                out += end - at
            else:
                out[0] = c"0" if CLASS[at[0]] & DIGIT else at[0]
                out += 1
        at = _after_spaces(end)
        if at[0] == c"}":
            return out - text if at + 1 - begin == size else 0
        if at[0] != c",":
            return 0


cdef inline int _field(const uint8_t* name, Py_ssize_t length, int before) noexcept nogil:
    """Which field has this name, -1 for none; tried first is the one after `before`, where it usually is."""
    cdef int field = before
    cdef int _
    for _ in range(FIELDS):
        field = field + 1 if field + 1 < FIELDS else 0
        if FIELD[field].length == length and memcmp(FIELD[field].name, name, length) == 0:
            return field
    return -1


cdef inline const uint8_t* _after_spaces(const uint8_t* at) noexcept nogil:
    while at[0] == c" ":
        at += 1
    return at


cdef inline const uint8_t* _value_end(const uint8_t* at) noexcept nogil:
    """Where a plain value ends, NULL where none begins."""
    if at[0] == c'"':
        return _string_end(at)
    if at[0] == c"n":
        return at + 4 if at[1] == c"u" and at[2] == c"l" and at[3] == c"l" else NULL
    return _integer_end(at)


cdef inline const uint8_t* _string_end(const uint8_t* at) noexcept nogil:
    if at[0] != c'"':
        return NULL
    at += 1
    while CLASS[at[0]] & TEXT:
        at += 1
    return at + 1 if at[0] == c'"' else NULL


cdef inline const uint8_t* _integer_end(const uint8_t* at) noexcept nogil:
    cdef const uint8_t* begin = at
    while CLASS[at[0]] & DIGIT:
        at += 1
    if at == begin or at - begin > MOST_DIGITS or (begin[0] == c"0" and at - begin > 1):
        return NULL
    return at


cdef inline const uint8_t* _time_end(const uint8_t* at) noexcept nogil:
    """Where a time in UTC ends, NULL where none begins; a leap second is none."""
    cdef Py_ssize_t i
    if at[0] != c'"':
        return NULL
    at += 1
    for i in range(TIME_LENGTH):
        if (not CLASS[at[i]] & DIGIT) if TIME[i] == c"0" else at[i] != <uint8_t>TIME[i]:
            return NULL
    if at[TEN_SECONDS - 1] > c"5":
        return NULL
    at += TIME_LENGTH
    if at[0] == c"." and CLASS[at[1]] & DIGIT:
        at += 2
        while CLASS[at[0]] & DIGIT:
            at += 1
    return at + 2 if at[0] == c"Z" and at[1] == c'"' else NULL
