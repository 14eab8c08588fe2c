#!/bin/bash
# sbatch --array=0-364%20 slurm.sh 2013-01-01
#SBATCH --job-name=crattn
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --signal=B:INT@600
# One night for each task of the array.  A task that runs out of time is sent Ctrl-C ten minutes before, finishes the
# frames in work, and is continued by submitting it again.
set -euo pipefail
export CRATTN_DB=postgresql+psycopg://pipeline@dbhost/provenance
night=$(date --date="$1 + $SLURM_ARRAY_TASK_ID days" +%Y%m%d)
exec crattn-stage reprocess --night "$night" --root /data --jobs 4
