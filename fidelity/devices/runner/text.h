/* Text that came from outside: is it UTF-8, and what of it can be shown or used as a file name? */

#ifndef FIDELITY_TEXT_H
#define FIDELITY_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the UTF-8 character that starts `text`; 0 when it is none (or NUL). */
size_t utf8_length(const char *text);

/* Is all of it UTF-8? */
bool is_utf8(const char *text);

/* Makes it one line of printable UTF-8, in place: anything else becomes a space or '?'. */
void make_printable(char *text);

enum { SAFE_NAME = 80 + 1 + 8 + 1 };

/* A file name for an untrusted name, the same as tensor_files.safe_name gives: plain characters
 * kept, anything else told apart by a hash. */
void safe_name(const char *name, char safe[SAFE_NAME]);

#endif
