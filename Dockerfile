# `deni serve` on CPU: docker build -t deni-serve . && docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/model:/model:ro" deni-serve
FROM python:3.12-slim-bookworm

# PyTorch's index of CPU wheels, as PyTorch's installation page names it. Empty: pip's default, which brings CUDA.
ARG TORCH_INDEX=""

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin deni

WORKDIR /source
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY src ./src
RUN python -m pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && python -m pip install --no-cache-dir --constraint constraints.txt ".[serve]"

# Nothing is written and nothing is downloaded: the model is mounted read-only at /model.
ENV HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /model
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["deni", "serve", "/model", "--host", "0.0.0.0", "--port", "8000"]
