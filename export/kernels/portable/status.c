#include "ec2t_common.h"

const char *ec2t_status_text(ec2t_status status) {
    switch (status) {
    case EC2T_OK: return "no error";
    case EC2T_ERROR_ARGUMENT: return "an argument is null or does not fit the layer";
    case EC2T_ERROR_UNALIGNED: return "the blob or the scratch does not start on its boundary";
    case EC2T_ERROR_TRUNCATED: return "the blob has not the size its header states";
    case EC2T_ERROR_MAGIC: return "this is not an EC2T blob";
    case EC2T_ERROR_VERSION: return "the blob has a version this library does not read";
    case EC2T_ERROR_CHECKSUM: return "the checksum of the blob is wrong: the file is damaged";
    case EC2T_ERROR_HEADER: return "a field of the blob is not allowed: the file is damaged";
    case EC2T_ERROR_STREAM: return "the weight stream does not decode: the file is damaged";
    case EC2T_ERROR_BUFFER: return "the scratch buffer is too small";
    case EC2T_ERROR_UNSUPPORTED: return "not supported by this function or processor";
    }
    return "unknown status";
}
