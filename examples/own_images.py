"""Images of your own, one folder a class: trained, exported, verified, with a report.

python own_images.py folder [epochs]

The same on the command line: ec2t train --dataset=folder --data_dir=folder --model=mobilenet
"""

import subprocess
import sys

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder, epochs = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "15"
subprocess.run(
    [
        *(sys.executable, "-m", "ec2t_tf", "train"),
        *("--dataset=folder", f"--data_dir={folder}", "--image_size=32,32"),
        *("--model=mobilenet", "--width=0.25", "--batch_size=16", "--target_sparsity=0.8"),
        *(f"--float_epochs={epochs}", f"--epochs={epochs}", "--output_dir=runs/own_images"),
    ],
    check=True,
)
print("Look at runs/own_images/report.html; runs/own_images/model.tflite is the file.")
