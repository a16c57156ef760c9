/* What the user of the delegate chose. */
#ifndef EC2T_OPTIONS_H
#define EC2T_OPTIONS_H

#include <stdbool.h>

#include "ec2t_requant.h"
#include "expansions.h"
#include "workspace.h"

typedef struct {
    ec2t_requant_mode requant;
    bool claim_int8; /* also take plain int8 operators whose weights are ternary */
    bool everything; /* and that where the cost model prefers dense */
    bool reference;  /* run the reference kernels only */
    bool verbose;
    bool profile; /* print the time of every step when the interpreter goes */
    int threads;  /* 0: as many as the interpreter asks for */
    /* Not the user's: of the partitions that are being made. */
    ec2t_workspace *workspace;
    ec2t_expansions *expansions;
} ec2t_delegate_options;

#endif
