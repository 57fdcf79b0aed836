# The page of demo.py, as an unprivileged user: docker build -t srgan-page . && docker run --rm -p 7860:7860 srgan-page
FROM python:3.11-slim
WORKDIR /srgan
COPY requirements-upscale.txt requirements-demo.txt ./
RUN pip install --no-cache-dir -r requirements-demo.txt && useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin page
COPY *.py LICENSE ./
COPY methods methods
COPY upscaling upscaling
COPY page page
COPY checkpoints/pretrained checkpoints/pretrained
COPY data/benchmark data/benchmark
USER 1000
ENV PYTHONDONTWRITEBYTECODE=1
EXPOSE 7860
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
CMD ["python", "demo.py", "--host", "0.0.0.0"]
