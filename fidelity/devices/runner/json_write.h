/* JSON text, grown as it is written: result.json. */

#ifndef FIDELITY_JSON_WRITE_H
#define FIDELITY_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_text {
    char *text;
    size_t length, room;
    bool comma; /* a member was written: the next one needs a comma before it */
};

/* A member of the object at hand, or of the list when `key` is NULL. A NULL text is null. */
void write_text(struct json_text *json, const char *key, const char *text);
void write_number(struct json_text *json, const char *key, double number);
void write_integer(struct json_text *json, const char *key, int64_t number);
void write_word(struct json_text *json, const char *key, const char *word); /* null, true, false */
void write_numbers(struct json_text *json, const char *key, const double *numbers, size_t count);
void open_bracket(struct json_text *json, const char *key, char bracket);
void close_bracket(struct json_text *json, char bracket);

#endif
