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

bool ec2t_workspace_reserve(ec2t_workspace *workspace, ec2t_buffer buffer, size_t size) {
    if (workspace->bytes[buffer] != NULL && size <= workspace->sizes[buffer]) {
        return true;
    }
    free(workspace->bytes[buffer]);
    workspace->bytes[buffer] = malloc(size + 1);
    workspace->sizes[buffer] = workspace->bytes[buffer] != NULL ? size : 0;
    return workspace->bytes[buffer] != NULL;
}

ec2t_team *ec2t_workspace_team(ec2t_workspace *workspace, int threads) {
    if (workspace->team == NULL) {
        workspace->team = ec2t_team_create(threads);
    }
    return workspace->team;
}
