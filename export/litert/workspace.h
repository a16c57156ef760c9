/* What the partitions of one interpreter share, as they run one after the other: threads, and
 * memory whose contents nobody needs after a partition has run. */
#ifndef EC2T_WORKSPACE_H
#define EC2T_WORKSPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "threads.h"

typedef enum {
    EC2T_ARENA,             /* of the tensors inside a partition */
    EC2T_REARRANGED_INPUT,  /* NHWC input of a step that is not planar among such as are */
    EC2T_REARRANGED_OUTPUT, /* and its output */
    EC2T_SCRATCH,           /* of all threads */
    EC2T_BUFFERS,
} ec2t_buffer;

typedef struct ec2t_workspace {
    int users;
    uint8_t *bytes[EC2T_BUFFERS];
    size_t sizes[EC2T_BUFFERS];
    ec2t_team *team;
} ec2t_workspace;

/* A workspace with one user, the caller; NULL without memory. */
ec2t_workspace *ec2t_workspace_create(void);

/* One user more; one less, the last of whom destroys it. NULL is no workspace. */
ec2t_workspace *ec2t_workspace_join(ec2t_workspace *workspace);
void ec2t_workspace_leave(ec2t_workspace *workspace);

/* Makes a buffer at least `size` bytes large; its contents may go. False without memory: the buffer
 * is then empty. */
bool ec2t_workspace_reserve(ec2t_workspace *workspace, ec2t_buffer buffer, uint64_t size);
bool ec2t_workspace_has(const ec2t_workspace *workspace, ec2t_buffer buffer, uint64_t size);

/* The team, of `threads` if there is none yet; NULL without memory. */
ec2t_team *ec2t_workspace_team(ec2t_workspace *workspace, int threads);

#endif
