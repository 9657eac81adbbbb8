FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8000 \
    DATABASE_URL=sqlite:////srv/chatsite/data/db.sqlite3
WORKDIR /srv/chatsite
# To send errors to Sentry: docker build --build-arg REQUIREMENTS=sentry
ARG REQUIREMENTS=run
COPY requirements/${REQUIREMENTS}.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/${REQUIREMENTS}.txt
COPY . .
# Collect static files, with settings that are used for nothing else.
RUN DEBUG=off ALLOWED_HOSTS=build SECRET_KEY=only-for-collecting-static-files-while-the-image-is-built \
    python manage.py collectstatic --noinput --verbosity 0 \
    && useradd --system chatsite && mkdir data files && chown chatsite data files && chmod 700 data files
USER chatsite
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Before the first start and after an update: python manage.py migrate
CMD ["python", "manage.py", "serve"]
