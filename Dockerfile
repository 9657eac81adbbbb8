FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0
WORKDIR /srv/chatsite
COPY requirements/run.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
# Collect static files, with settings that are used for nothing else.
RUN DEBUG=off ALLOWED_HOSTS=build SECRET_KEY=only-for-collecting-static-files-while-the-image-is-built \
    python manage.py collectstatic --noinput --verbosity 0 \
    && useradd --system chatsite && mkdir data files && chown chatsite data files
USER chatsite
EXPOSE 8000
CMD ["sh", "-c", "python manage.py migrate --verbosity 0 && exec python manage.py serve"]
