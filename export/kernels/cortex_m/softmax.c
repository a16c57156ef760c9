#include "planar.h"
