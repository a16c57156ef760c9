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
    unsigned forks; /* of this process when the threads started */
    void (*work)(void *, int, int);
    void *argument;
    atomic_uint job; /* counts jobs; a worker waits until it changes */
    atomic_int busy; /* workers still at the present job */
    atomic_bool ended;
    pthread_mutex_t lock;
    pthread_cond_t changed, done;
    ec2t_worker workers[];
};

/* A child of fork() has its parent's memory, but only the thread that called fork(): it counts one
 * more than the teams that it finds. */
static atomic_uint forks;
static pthread_once_t forks_are_watched = PTHREAD_ONCE_INIT;

static void count_fork(void) {
    atomic_fetch_add(&forks, 1);
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, count_fork);
}

static bool is_orphaned(const ec2t_team *team) {
    return team->forks != atomic_load_explicit(&forks, memory_order_relaxed);
}

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

/* Starts the threads of a team of at most `most`, whatever state its locks are in. */
static void start(ec2t_team *team, int most) {
    team->size = 1;
    team->forks = atomic_load(&forks);
    atomic_init(&team->job, 0);
    atomic_init(&team->busy, 0);
    atomic_init(&team->ended, false);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->changed, NULL);
    pthread_cond_init(&team->done, NULL);
    for (int part = 1; part < most; part++) {
        ec2t_worker *worker = &team->workers[part - 1];
        worker->team = team;
        worker->part = part;
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            break;
        }
        team->size++;
    }
}

ec2t_team *ec2t_team_create(int size) {
    pthread_once(&forks_are_watched, watch_forks);
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size = processors > 0 && size > processors ? (int)processors : size;
    const int workers = size > 1 ? size - 1 : 0;
    ec2t_team *team = calloc(1, sizeof *team + (size_t)workers * sizeof team->workers[0]);
    if (team != NULL) {
        start(team, size);
    }
    return team;
}

void ec2t_team_destroy(ec2t_team *team) {
    if (team == NULL) {
        return;
    }
    if (!is_orphaned(team)) {
        atomic_store(&team->ended, true);
        announce(team);
        for (int i = 0; i + 1 < team->size; i++) {
            pthread_join(team->workers[i].thread, NULL);
        }
        pthread_cond_destroy(&team->changed);
        pthread_cond_destroy(&team->done);
        pthread_mutex_destroy(&team->lock);
    }
    free(team);
}

int ec2t_team_size(const ec2t_team *team) {
    return team->size;
}

void ec2t_team_run(ec2t_team *team, void (*work)(void *argument, int part, int parts),
                   void *argument) {
    if (is_orphaned(team)) {
        start(team, team->size); /* no more than before: memory was counted by it */
    }
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
