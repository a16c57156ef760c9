/* Teams across fork(): the child has the memory of a team and none of its threads. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "threads.h"

enum { MOST_PARTS = 64, RUNS = 50 };

static atomic_int counts[MOST_PARTS];

static void count(void *argument, int part, int parts) {
    (void)argument;
    (void)parts;
    atomic_fetch_add(&counts[part], 1);
}

/* Whether every part of every run ran once. */
static int runs_well(ec2t_team *team) {
    const int size = ec2t_team_size(team);
    for (int part = 0; part < size; part++) {
        atomic_store(&counts[part], 0);
    }
    for (int i = 0; i < RUNS; i++) {
        ec2t_team_run(team, count, NULL);
    }
    int well = size == ec2t_team_size(team);
    for (int part = 0; part < size; part++) {
        well = well && atomic_load(&counts[part]) == RUNS;
    }
    return well;
}

static int succeeded(pid_t child) {
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

int main(void) {
    ec2t_team *team = ec2t_team_create(4);
    int well = team != NULL && runs_well(team);
    for (int kind = 0; kind < 4 && well; kind++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(60); /* a child that waits for threads it does not have */
            int good = 1;
            if (kind != 1) {
                good = runs_well(team) && runs_well(team);
            }
            if (kind == 2) {
                const pid_t grandchild = fork();
                if (grandchild == 0) {
                    _exit(runs_well(team) ? 0 : 1);
                }
                good = good && succeeded(grandchild) && runs_well(team);
            }
            if (kind != 3) {
                ec2t_team_destroy(team); /* with or without having run */
            }
            _exit(good ? 0 : 1);
        }
        well = succeeded(child) && runs_well(team);
    }
    ec2t_team_destroy(team);
    puts(well ? "every part ran once" : "no");
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}
