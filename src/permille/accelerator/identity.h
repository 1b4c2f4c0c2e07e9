/* The identity of an event, as events/identity.py makes it. A piece of _usual.c. */

#define ORDERED_FROM 1795910400000LL  /* events/identity.py, as the next: milliseconds since 1970 */
#define ORDERED_UNTIL 7258118400000LL
#define TIME_BYTES 6
#define ULID_LENGTH 26
#define ULID_TIME_LENGTH 10

typedef struct {
    uint8_t organization[16];
    uint8_t chance[256];
    size_t chance_left;
} identifier;

static int crockford_value(uint8_t c)
{
    static const char letters[] = "abcdefghjkmnpqrstvwxyz";
    if (c >= '0' && c <= '9')
        return c - '0';
    const char *at = c > '9' ? strchr(letters, c | 0x20) : NULL;
    return at ? (int)(at - letters) + 10 : -1;
}

/* Of a UUIDv7 of 32 digits, and of dashes where it has them. */
static int64_t uuid_time(const uint8_t *p, int has_dashes)
{
    static const uint8_t groups[] = {8, 4, 4, 4, 12};
    const uint8_t *version = p + 12 + 2 * has_dashes, *variant = p + 16 + 3 * has_dashes;
    int64_t time = 0;
    int digits = 0;
    if (*version != '7' || (hex_value(*variant) & 12) != 8)
        return -1;
    for (int group = 0; group < 5; group++) {
        if (group && has_dashes && *p++ != '-')
            return -1;
        for (int i = 0; i < groups[group]; i++, digits++) {
            int digit = hex_value(*p++);
            if (digit < 0)
                return -1;
            if (digits < 2 * TIME_BYTES)
                time = time << 4 | digit;
        }
    }
    return time;
}

static int64_t ulid_time(const uint8_t *p)
{
    int64_t time = 0;
    if (*p > '7')
        return -1;
    for (int i = 0; i < ULID_LENGTH; i++) {
        int digit = crockford_value(p[i]);
        if (digit < 0)
            return -1;
        if (i < ULID_TIME_LENGTH)
            time = time << 5 | digit;
    }
    return time;
}

/* Milliseconds since 1970 that a transaction id carries, -1 where it carries none. */
static int64_t time_of(const text *id)
{
    if (id->n == 32 || id->n == 36)
        return uuid_time(id->p, id->n == 36);
    return id->n == ULID_LENGTH ? ulid_time(id->p) : -1;
}

/* One without a subscription is never a duplicate. */
static int make_identity(identifier *by, const event *e, const uint8_t *subscription, uint8_t *identity)
{
    uint8_t named[16 + 4 * NAME_MAX_CHARS];
    memcpy(named, by->organization, 16);
    memcpy(named + 16, e->transaction_id.p, e->transaction_id.n);
    blake2b(identity, 16, named, 16 + e->transaction_id.n);
    int64_t time = time_of(&e->transaction_id);
    for (int i = 0; i < TIME_BYTES && time >= ORDERED_FROM && time < ORDERED_UNTIL; i++)
        identity[i] = (uint8_t)(time >> 8 * (TIME_BYTES - 1 - i));
    if (!e->has_subscription) {
        if (by->chance_left < 8) {
            if (getentropy(by->chance, sizeof by->chance))
                return 0;
            by->chance_left = sizeof by->chance;
        }
        by->chance_left -= 8;
        subscription = by->chance + by->chance_left;
    }
    for (int i = 0; i < 8; i++)
        identity[8 + i] ^= subscription[i];
    return 1;
}
