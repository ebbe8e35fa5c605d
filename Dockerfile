# All commands of ommatidia, without a GPU. Photos, configurations, models and results stay outside:
#   docker build --tag ommatidia .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" ommatidia run --config configs/demo.yaml
FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/tmp
WORKDIR /build
COPY requirements.txt ./
RUN pip install --extra-index-url https://download.pytorch.org/whl/cpu --requirement requirements.txt
COPY pyproject.toml README.md LICENSE config.yaml *.py ./
COPY pipeline pipeline
COPY configs configs
RUN pip install --no-deps .

USER 1000
WORKDIR /data
ENTRYPOINT ["ommatidia"]
CMD ["--help"]
