/* Compact blobs that were expanded to judge a node, kept until its step is made: expanding one
 * takes most of the time that opening a file does. */
#ifndef EC2T_EXPANSIONS_H
#define EC2T_EXPANSIONS_H

#include <stdbool.h>

#include "ec2t_layer.h"

/* A list; zero is an empty one. */
typedef struct {
    struct ec2t_expansion *first;
} ec2t_expansions;

/* Keeps `blob`, of malloc, as what `compact` is expanded to between such ends; false without
 * memory: the caller then still owns it. */
bool ec2t_expansions_keep(ec2t_expansions *list, const void *compact, const ec2t_ends *ends,
                          void *blob, size_t size);

/* What was kept, the caller's from now on, and its size; NULL if there is none. */
void *ec2t_expansions_take(ec2t_expansions *list, const void *compact, const ec2t_ends *ends,
                           size_t *size);

/* Frees what nobody took. */
void ec2t_expansions_clear(ec2t_expansions *list);

#endif
