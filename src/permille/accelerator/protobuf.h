/* Messages of protobuf, and the attributes of OTLP in them. NULL or 0 without an error where protobuf's library is to decide:
   of all that is repeated, unknown or in another order than senders write, and of what has no UTF-8. */

#define ANY_DEPTH_MAX 20

typedef struct {
    const uint8_t *p, *end;
} message;

typedef struct {
    uint32_t number;
    int wire;
    uint64_t number_value; /* of a varint or of 4 or 8 bytes */
    message bytes;         /* of what has a length */
} field;

enum { VARINT = 0, EIGHT_BYTES = 1, SIZED = 2, FOUR_BYTES = 5 };

static int read_varint(message *m, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (m->p == m->end)
            return 0;
        uint8_t byte = *m->p++;
        if (shift == 63 && byte > 1)
            return 0;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return byte || !shift; /* the shortest form */
    }
    return 0;
}

static int read_little_endian(message *m, int n, uint64_t *value)
{
    if (m->end - m->p < n)
        return 0;
    *value = 0;
    for (int i = 0; i < n; i++)
        *value |= (uint64_t)*m->p++ << 8 * i;
    return 1;
}

static int read_field_of(message *m, field *f)
{
    uint64_t tag, size;
    if (!read_varint(m, &tag) || tag >> 3 > 100)
        return 0;
    f->number = (uint32_t)(tag >> 3);
    f->wire = tag & 7;
    switch (f->wire) {
    case VARINT:
        return read_varint(m, &f->number_value);
    case EIGHT_BYTES:
        return read_little_endian(m, 8, &f->number_value);
    case FOUR_BYTES:
        return read_little_endian(m, 4, &f->number_value);
    case SIZED:
        if (!read_varint(m, &size) || size > (uint64_t)(m->end - m->p))
            return 0;
        f->bytes.p = m->p;
        f->bytes.end = m->p += size;
        return 1;
    default:
        return 0;
    }
}

/* Whether the field is of this wire type, and the first of its number in its message. */
static int is_first(const field *f, int wire, uint32_t *seen)
{
    uint32_t bit = 1u << f->number;
    int is = f->wire == wire && !(*seen & bit);
    *seen |= bit;
    return is;
}

static int is_ascii(const field *f)
{
    const uint8_t *p = f->bytes.p, *end = f->bytes.end;
    for (uint64_t word; end - p >= 8; p += 8) {
        memcpy(&word, p, 8);
        if (word & 0x8080808080808080ULL)
            return 0;
    }
    for (; p < end; p++)
        if (*p >= 0x80)
            return 0;
    return 1;
}

static PyObject *text_in(const message *m)
{
    PyObject *text = PyUnicode_DecodeUTF8((const char *)m->p, m->end - m->p, NULL);
    if (!text && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        PyErr_Clear();
    return text;
}

static PyObject *hex_in(const message *m)
{
    static const char hex[] = "0123456789abcdef";
    PyObject *text = PyUnicode_New(2 * (m->end - m->p), 'f');
    uint8_t *into = text ? PyUnicode_1BYTE_DATA(text) : NULL;
    for (const uint8_t *p = m->p; into && p < m->end; p++) {
        *into++ = (uint8_t)hex[*p >> 4];
        *into++ = (uint8_t)hex[*p & 15];
    }
    return text;
}

static int add_attribute(PyObject *attributes, message m, int depth);

static PyObject *any_value(message m, int depth);

/* An ArrayValue as a list, a KeyValueList as a dict. */
static PyObject *many_values(message m, int is_list, int depth)
{
    PyObject *found = is_list ? PyList_New(0) : PyDict_New();
    int is_fine = found && depth < ANY_DEPTH_MAX;
    while (is_fine && m.p < m.end) {
        field f;
        is_fine = read_field_of(&m, &f) && f.number == 1 && f.wire == SIZED;
        if (is_fine && is_list) {
            PyObject *value = any_value(f.bytes, depth + 1);
            is_fine = value && !PyList_Append(found, value);
            Py_XDECREF(value);
        } else if (is_fine)
            is_fine = add_attribute(found, f.bytes, depth + 1);
    }
    if (!is_fine)
        Py_CLEAR(found);
    return found;
}

static PyObject *any_value(message m, int depth)
{
    field f;
    double number;
    if (m.p == m.end)
        return Py_NewRef(Py_None);
    if (!read_field_of(&m, &f) || m.p != m.end)
        return NULL;
    switch (f.number << 3 | (uint32_t)f.wire) {
    case 1 << 3 | SIZED:
        return text_in(&f.bytes);
    case 2 << 3 | VARINT:
        return PyBool_FromLong(f.number_value != 0);
    case 3 << 3 | VARINT:
        return PyLong_FromLongLong((int64_t)f.number_value);
    case 4 << 3 | EIGHT_BYTES:
        memcpy(&number, &f.number_value, sizeof number);
        return PyFloat_FromDouble(number);
    case 5 << 3 | SIZED:
    case 6 << 3 | SIZED:
        return many_values(f.bytes, f.number == 5, depth);
    case 7 << 3 | SIZED:
        return Py_NewRef(Py_None);
    default:
        return NULL;
    }
}

static int read_key_value(message m, message *name, message *value)
{
    uint32_t seen = 0;
    while (m.p < m.end) {
        field f;
        if (!read_field_of(&m, &f) || f.number < 1 || f.number > 2 || !is_first(&f, SIZED, &seen))
            return 0;
        *(f.number == 1 ? name : value) = f.bytes;
    }
    return 1;
}

/* Names are interned, since the same ones come again and again and are looked up. */
static int add_attribute(PyObject *attributes, message m, int depth)
{
    message name = {0}, value = {0};
    if (!read_key_value(m, &name, &value))
        return 0;
    PyObject *key = text_in(&name), *found = key ? any_value(value, depth) : NULL;
    if (found)
        PyUnicode_InternInPlace(&key);
    int is_added = found && !PyDict_SetItem(attributes, key, found);
    Py_XDECREF(key);
    Py_XDECREF(found);
    return is_added;
}
