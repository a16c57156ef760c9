/* A team of threads that share the parts of one job. */
#ifndef EC2T_THREADS_H
#define EC2T_THREADS_H

typedef struct ec2t_team ec2t_team;

/* A team of `size` threads, the caller's included; NULL if there is no memory for it. Where the
 * system has fewer processors or grants fewer threads, the team is smaller. After a fork() the
 * child may use and destroy it too: it gets threads of its own when it runs. */
ec2t_team *ec2t_team_create(int size);
void ec2t_team_destroy(ec2t_team *team);

int ec2t_team_size(const ec2t_team *team);

/* Calls work(argument, part, size of the team) once for each part, 0 for the caller; returns when
 * all are done. */
void ec2t_team_run(ec2t_team *team, void (*work)(void *argument, int part, int parts),
                   void *argument);

#endif
