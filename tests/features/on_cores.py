"""log_mel.c built for the host or a core and run on sounds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.features import LogMel
from tests.bench import qemu

_HOST = """
#include <stdio.h>
#include "log_mel.h"
static int16_t samples[EC2T_LOG_MEL_SAMPLES];
static int8_t codes[EC2T_LOG_MEL_BANDS * EC2T_LOG_MEL_FRAMES];
static int64_t scratch[4096];
int main(void) {
  if ((int32_t)sizeof scratch < ec2t_log_mel_get_buffer_size()) return 1;
  if (ec2t_log_mel(0, codes, scratch) != EC2T_LOG_MEL_MISSING) return 2;
  while (fread(samples, sizeof samples, 1, stdin) == 1) {
    if (ec2t_log_mel(samples, codes, scratch) != EC2T_LOG_MEL_OK) return 3;
    if (fwrite(codes, sizeof codes, 1, stdout) != 1) return 4;
  }
  return 0;
}
"""
_FIRMWARE = """
#include "log_mel.h"
#include "semihost.h"
static int16_t samples[EC2T_LOG_MEL_SAMPLES];
static int8_t codes[EC2T_LOG_MEL_BANDS * EC2T_LOG_MEL_FRAMES];
static int64_t scratch[1024];
int main(void) {
  const int from = semihost_open("input.bin", 1), to = semihost_open("output.bin", 5);
  if (from < 0 || to < 0 || (int32_t)sizeof scratch < ec2t_log_mel_get_buffer_size()) return 2;
  while (semihost_read(from, samples, sizeof samples) == sizeof samples) {
    EC2T_COUNT_BEGIN();
    const int32_t status = ec2t_log_mel(samples, codes, scratch);
    EC2T_COUNT_END();
    if (status != EC2T_LOG_MEL_OK) return 1;
    if (semihost_file_write(to, codes, sizeof codes) != sizeof codes) return 3;
  }
  semihost_close(to);
  return 0;
}
"""
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def on_host(
    folder: Path, features: LogMel, sounds: npt.NDArray[np.int16], *, sanitize: bool = True
) -> npt.NDArray[np.int8]:
    """Codes (count, bands, frames) of sounds (count, samples) by the C in `folder`."""
    (folder / "main.c").write_text(_HOST)
    flags = ["-std=c11", "-O1", *qemu.WARNINGS, *(SANITIZE if sanitize else [])]
    sources = [str(folder / name) for name in ("log_mel.c", "main.c")]
    program = folder / "program"
    subprocess.run(["gcc", *flags, *sources, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], input=sounds.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    shape = (len(sounds), features.bands, features.frames)
    return np.frombuffer(done.stdout, np.int8).reshape(shape)


def on_core(
    core: str, folder: Path, features: LogMel, sounds: npt.NDArray[np.int16]
) -> tuple[npt.NDArray[np.int8], tuple[qemu.Count, ...]]:
    """Codes of sounds on a core in QEMU, and what each took."""
    (folder / "firmware.c").write_text(_FIRMWARE)
    (folder / "input.bin").write_bytes(sounds.tobytes())
    sources = [folder / name for name in ("log_mel.c", "firmware.c")]
    image = qemu.build(core, sources, folder / core, include=[folder])
    run = qemu.run(core, image.path, folder=folder)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    found = np.frombuffer((folder / "output.bin").read_bytes(), np.int8)
    return found.reshape(len(sounds), features.bands, features.frames), run.counts
