#include "workspace.h"

#include <stdlib.h>

ec2t_workspace *ec2t_workspace_create(void) {
    ec2t_workspace *workspace = calloc(1, sizeof *workspace);
    return ec2t_workspace_join(workspace);
}

ec2t_workspace *ec2t_workspace_join(ec2t_workspace *workspace) {
    if (workspace != NULL) {
        workspace->users++;
    }
    return workspace;
}

void ec2t_workspace_leave(ec2t_workspace *workspace) {
    if (workspace == NULL || --workspace->users > 0) {
        return;
    }
    for (int i = 0; i < EC2T_BUFFERS; i++) {
        free(workspace->bytes[i]);
    }
    ec2t_team_destroy(workspace->team);
    free(workspace);
}

bool ec2t_workspace_has(const ec2t_workspace *workspace, ec2t_buffer buffer, uint64_t size) {
    return workspace->bytes[buffer] != NULL && size <= workspace->sizes[buffer];
}

bool ec2t_workspace_reserve(ec2t_workspace *workspace, ec2t_buffer buffer, uint64_t size) {
    if (ec2t_workspace_has(workspace, buffer, size)) {
        return true;
    }
    free(workspace->bytes[buffer]);
    /* 32-bit systems: the sum of sizes that fit one by one may not. */
    workspace->bytes[buffer] = size < PTRDIFF_MAX ? malloc((size_t)size + 1) : NULL;
    workspace->sizes[buffer] = workspace->bytes[buffer] != NULL ? (size_t)size : 0;
    return workspace->bytes[buffer] != NULL;
}

ec2t_team *ec2t_workspace_team(ec2t_workspace *workspace, int threads) {
    if (workspace->team == NULL) {
        workspace->team = ec2t_team_create(threads);
    }
    return workspace->team;
}
