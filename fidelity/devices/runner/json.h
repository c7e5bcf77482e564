/* A strict reader of RFC 8259 JSON: job.json is read with it, and comes from outside.
 *
 * No duplicate keys, no lone surrogates, no NUL in a text, nothing behind the document, and limits
 * on depth and on the members of an object. Everything lives until the program ends. */

#ifndef FIDELITY_JSON_H
#define FIDELITY_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT };

struct json {
    enum json_kind kind;
    bool whole;        /* a number without fraction and exponent that int64 holds: `integer` */
    bool too_large;    /* a whole number of more than 18 digits: Python's reader takes it for no float */
    const char *key;   /* of a member of an object, else NULL */
    const char *text;  /* of a JSON_TEXT */
    double number;     /* of a JSON_NUMBER, finite */
    int64_t integer;
    size_t count;      /* of a list's or object's members: */
    struct json *first, *next;
};

/* The document in `content`, which a NUL follows; NULL with a BAD_JOB failure when it is not JSON. */
struct json *json_read(const char *content, size_t size, struct failure *failure);

/* A member of an object; NULL when there is none. */
const struct json *json_member(const struct json *object, const char *key);

#endif
