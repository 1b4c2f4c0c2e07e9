/* The shape of an answer of a model: what core/llm/shape.py says of it, or NULL without an error where that is to decide. */

enum { S_END, S_TEXT, S_OBJECT, S_LIST, S_ITEM, S_TRUE, S_FALSE, S_ID, S_SPAN, S_SIGNS, S_MARKS };

#define SHAPE_ID_MAX 200
#define SHAPE_NAME_MAX 256
#define SHAPE_KEY_MAX 400
#define SHAPE_COUNT_END 1000000000000000LL
#define SHAPE_DEPTH_MAX 50
#define SHAPE_LIST_MAX 1000

typedef struct {
    PyObject *key, *counts, *ids; /* lists */
    PyObject *in_counts, *in_nested, *in_ids, *in_names;
    int depth;
} shape;

static PyObject *marks[S_MARKS];

static int make_marks(void)
{
    for (long i = 0; i < S_MARKS; i++)
        if (!(marks[i] = PyLong_FromLong(i)))
            return 0;
    return 1;
}

static int add_mark(shape *s, int mark)
{
    return !PyList_Append(s->key, marks[mark]);
}

static int add_named(shape *s, int mark, PyObject *name)
{
    return add_mark(s, mark) && !PyList_Append(s->key, name);
}

/* Whether bytes are letters, digits and _.:/@+,~- alone, and not too many. */
static int are_plain(const uint8_t *p, Py_ssize_t n, Py_ssize_t most)
{
    if (n < 1 || n > most)
        return 0;
    for (Py_ssize_t i = 0; i < n; i++)
        if (!Py_ISALNUM(p[i]) && (!p[i] || !strchr("_.:/@+,~-", p[i])))
            return 0;
    return 1;
}

/* Likewise of a text; -1 where it has others than ASCII. */
static int is_plain(PyObject *value, Py_ssize_t most)
{
    if (!PyUnicode_IS_ASCII(value))
        return -1;
    return are_plain(PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value), most);
}

static int begins(const uint8_t *p, Py_ssize_t n, const char *begin)
{
    Py_ssize_t length = (Py_ssize_t)strlen(begin);
    return n >= length && !memcmp(p, begin, (size_t)length);
}

static int begins_with(PyObject *value, const char *begin)
{
    return begins(PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value), begin);
}

static int add_id(shape *s, PyObject *name, PyObject *value)
{
    if (!PyUnicode_CheckExact(value) || is_plain(value, SHAPE_ID_MAX) != 1 || begins_with(value, "event:"))
        return 0;
    return add_named(s, begins_with(value, "span:") ? S_SPAN : S_ID, name) && !PyList_Append(s->ids, value);
}

static int add_count(shape *s, PyObject *name, PyObject *value)
{
    int overflow;
    long long count = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow || count < 0 || count >= SHAPE_COUNT_END)
        return 0;
    return !PyList_Append(s->counts, value) && !PyList_Append(s->key, name);
}

static int add_shape_value(shape *s, PyObject *name, PyObject *value)
{
    if (PyUnicode_CheckExact(value)) {
        int is = is_plain(value, SHAPE_NAME_MAX);
        return is < 0 ? 0 : !is || (add_named(s, S_TEXT, name) && !PyList_Append(s->key, value));
    }
    if (PyLong_CheckExact(value))
        return add_count(s, name, value);
    return PyBool_Check(value) && add_named(s, value == Py_True ? S_TRUE : S_FALSE, name);
}

static int add_counts(shape *s, PyObject *found);

static int add_list_of_counts(shape *s, PyObject *name, PyObject *list)
{
    if (!add_named(s, S_LIST, name))
        return 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (!add_mark(s, S_ITEM) || !add_counts(s, PyList_GET_ITEM(list, i)))
            return 0;
    return add_mark(s, S_END);
}

static int add_counts(shape *s, PyObject *found)
{
    Py_ssize_t at = 0;
    PyObject *name, *value;
    int is_fine = PyDict_CheckExact(found) && s->depth < SHAPE_DEPTH_MAX;
    s->depth++;
    while (is_fine && PyDict_Next(found, &at, &name, &value)) {
        if (!PyUnicode_CheckExact(name))
            is_fine = 0;
        else if (PyLong_CheckExact(value))
            is_fine = add_count(s, name, value);
        else if (PyDict_CheckExact(value))
            is_fine = add_named(s, S_OBJECT, name) && add_counts(s, value);
        else if (PyList_CheckExact(value))
            is_fine = add_list_of_counts(s, name, value);
        else if (value != Py_None)
            is_fine = add_shape_value(s, name, value);
    }
    s->depth--;
    return is_fine && add_mark(s, S_END);
}

static int add_answer(shape *s, PyObject *answer);

static int add_list(shape *s, PyObject *name, PyObject *list)
{
    int is_nested = PySet_Contains(s->in_nested, name);
    if (is_nested != 1)
        return !is_nested && PyUnicode_CompareWithASCIIString(name, "webSearchQueries");
    if (!add_named(s, S_LIST, name))
        return 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list) && i < SHAPE_LIST_MAX; i++) {
        PyObject *each = PyList_GET_ITEM(list, i);
        if (PyDict_CheckExact(each) && !(add_mark(s, S_ITEM) && add_answer(s, each) && add_mark(s, S_END)))
            return 0;
    }
    return add_mark(s, S_END);
}

static int add_object(shape *s, PyObject *name, PyObject *object)
{
    int is_in = PySet_Contains(s->in_counts, name);
    if (is_in)
        return is_in == 1 && add_named(s, S_OBJECT, name) && add_counts(s, object);
    is_in = PySet_Contains(s->in_nested, name);
    return !is_in || (is_in == 1 && add_named(s, S_OBJECT, name) && add_answer(s, object) && add_mark(s, S_END));
}

static int add_field(shape *s, PyObject *name, PyObject *value)
{
    int is_in = PySet_Contains(s->in_names, name);
    if (is_in != 1 || value == Py_None)
        return is_in >= 0;
    if (PyUnicode_CheckExact(value)) {
        is_in = PySet_Contains(s->in_ids, name);
        if (is_in)
            return is_in == 1 && add_id(s, name, value);
    }
    return add_shape_value(s, name, value);
}

static int add_answer(shape *s, PyObject *answer)
{
    Py_ssize_t at = 0;
    PyObject *name, *value;
    int is_fine = PyDict_CheckExact(answer) && s->depth < SHAPE_DEPTH_MAX;
    s->depth++;
    while (is_fine && PyDict_Next(answer, &at, &name, &value)) {
        if (!PyUnicode_CheckExact(name))
            is_fine = 0;
        else if (PyDict_CheckExact(value))
            is_fine = add_object(s, name, value);
        else if (PyList_CheckExact(value))
            is_fine = add_list(s, name, value);
        else
            is_fine = add_field(s, name, value);
    }
    s->depth--;
    return is_fine;
}

/* What is in a usage under this name: borrowed, NULL where there is nothing or None. */
static PyObject *said_of(PyObject *usage, const char *name)
{
    PyObject *found = PyDict_GetItemString(usage, name);
    return found == Py_None ? NULL : found;
}

static int add_usage(shape *s, PyObject *usage)
{
    static const char *beside[] = {"provider", "api", "model", "tier"};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        PyObject *found = said_of(usage, beside[i]);
        if ((found && !PyUnicode_CheckExact(found)) || PyList_Append(s->key, found ? found : Py_None))
            return 0;
    }
    PyObject *own = said_of(usage, "id"), *response = said_of(usage, "response"), *counts;
    if (own) {
        PyObject *name = PyUnicode_InternFromString("id");
        int is_added = name && add_id(s, name, own);
        Py_XDECREF(name);
        if (!is_added)
            return 0;
    }
    if (response)
        return add_mark(s, S_ITEM) && add_answer(s, response);
    counts = said_of(usage, "usage");
    return counts && add_counts(s, counts);
}

static int add_signs(shape *s)
{
    Py_ssize_t n = PyList_GET_SIZE(s->counts);
    if (!n || !PyList_GET_SIZE(s->ids) || PyList_GET_SIZE(s->key) > SHAPE_KEY_MAX || !add_mark(s, S_SIGNS))
        return 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        int is_any = PyObject_IsTrue(PyList_GET_ITEM(s->counts, i));
        if (is_any < 0 || PyList_Append(s->key, is_any ? Py_True : Py_False))
            return 0;
    }
    return 1;
}

static PyObject *shape_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *usage, *key = NULL, *result = NULL;
    shape s = {0};
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!", &PyDict_Type, &usage, &PyFrozenSet_Type, &s.in_counts, &PyFrozenSet_Type,
                          &s.in_nested, &PyFrozenSet_Type, &s.in_ids, &PyFrozenSet_Type, &s.in_names))
        return NULL;
    s.key = PyList_New(0);
    s.counts = PyList_New(0);
    s.ids = PyList_New(0);
    if (s.key && s.counts && s.ids && add_usage(&s, usage) && add_signs(&s) && (key = PyList_AsTuple(s.key)))
        result = PyTuple_Pack(3, key, s.counts, s.ids);
    Py_XDECREF(key);
    Py_XDECREF(s.key);
    Py_XDECREF(s.counts);
    Py_XDECREF(s.ids);
    if (!result && !PyErr_Occurred())
        Py_RETURN_NONE;
    return result;
}
