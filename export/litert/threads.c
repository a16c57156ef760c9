#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPINS = 4000 }; /* some microseconds: the next layer's work comes sooner than a sleep ends */

typedef struct {
    ec2t_team *team;
    pthread_t thread;
    int part;
} ec2t_worker;

struct ec2t_team {
    int size;
    void (*work)(void *, int, int);
    void *argument;
    atomic_uint job; /* counts jobs; a worker waits until it changes */
    atomic_int busy; /* workers still at the present job */
    atomic_bool ended;
    pthread_mutex_t lock;
    pthread_cond_t changed, done;
    ec2t_worker workers[];
};

static unsigned next_job(ec2t_team *team, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        const unsigned job = atomic_load_explicit(&team->job, memory_order_acquire);
        if (job != seen) {
            return job;
        }
    }
    pthread_mutex_lock(&team->lock);
    unsigned job;
    while ((job = atomic_load(&team->job)) == seen) {
        pthread_cond_wait(&team->changed, &team->lock);
    }
    pthread_mutex_unlock(&team->lock);
    return job;
}

static void announce(ec2t_team *team) {
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->job, 1);
    pthread_cond_broadcast(&team->changed);
    pthread_mutex_unlock(&team->lock);
}

static void *worker_main(void *argument) {
    ec2t_worker *worker = argument;
    ec2t_team *team = worker->team;
    for (unsigned seen = 0;;) {
        seen = next_job(team, seen);
        if (atomic_load(&team->ended)) {
            return NULL;
        }
        team->work(team->argument, worker->part, team->size);
        if (atomic_fetch_sub(&team->busy, 1) == 1) {
            pthread_mutex_lock(&team->lock);
            pthread_cond_signal(&team->done);
            pthread_mutex_unlock(&team->lock);
        }
    }
}

ec2t_team *ec2t_team_create(int size) {
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size = processors > 0 && size > processors ? (int)processors : size;
    const int wanted = size > 1 ? size - 1 : 0;
    ec2t_team *team = calloc(1, sizeof *team + (size_t)wanted * sizeof team->workers[0]);
    if (team == NULL) {
        return NULL;
    }
    team->size = 1;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->changed, NULL);
    pthread_cond_init(&team->done, NULL);
    for (int i = 0; i < wanted; i++) {
        ec2t_worker *worker = &team->workers[i];
        worker->team = team;
        worker->part = i + 1;
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            break;
        }
        team->size++;
    }
    return team;
}

void ec2t_team_destroy(ec2t_team *team) {
    if (team == NULL) {
        return;
    }
    atomic_store(&team->ended, true);
    announce(team);
    for (int i = 0; i + 1 < team->size; i++) {
        pthread_join(team->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&team->changed);
    pthread_cond_destroy(&team->done);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

int ec2t_team_size(const ec2t_team *team) {
    return team->size;
}

void ec2t_team_run(ec2t_team *team, void (*work)(void *argument, int part, int parts),
                   void *argument) {
    if (team->size > 1) {
        team->work = work;
        team->argument = argument;
        atomic_store(&team->busy, team->size - 1);
        announce(team);
    }
    work(argument, 0, team->size);
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&team->busy, memory_order_acquire) == 0) {
            return;
        }
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->busy) > 0) {
        pthread_cond_wait(&team->done, &team->lock);
    }
    pthread_mutex_unlock(&team->lock);
}
