# The served page. `docker build -t attnxr .`, then `docker run -p 5006:5006 attnxr`; see docs/serving.md.
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 attnxr
WORKDIR /srv/attnxr
COPY . .
# The CPU's torch: the other one brings gigabytes of libraries for graphics cards.
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu ".[demo]"
USER 1000
ENV HF_HOME=/home/attnxr/models NUMBA_CACHE_DIR=/home/attnxr/kernels PORT=5006
EXPOSE 5006
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health', timeout=5)"]
# ORIGIN is the host under which visitors open the page, where it is not localhost.
CMD ["sh", "-c", "exec attnxr serve minilm --port $PORT ${ORIGIN:+--allow-websocket-origin $ORIGIN}"]
