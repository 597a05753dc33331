# syntax=docker/dockerfile:1
# One image for every role: docker run remit api | bridge | worker | relay | ingest | migrate …
#
# Debian, not Alpine: the native part of the Temporal SDK (@temporalio/core-bridge) is published for glibc only, and
# musl's compatibility layers are not supported by it.
ARG NODE_IMAGE=node:24.21.0-trixie-slim

# ---- build: all packages, the database client, dist/ and the workflow bundle ----
# Nothing of what it makes is for one architecture: it runs on the builder's, whichever the image is for.
FROM --platform=${BUILDPLATFORM} ${NODE_IMAGE} AS build
WORKDIR /app
# Migrations have a runner of their own, so Prisma's schema engine is never needed: /bin/true spares its download.
ENV PRISMA_SCHEMA_ENGINE_BINARY=/bin/true \
    PRISMA_HIDE_UPDATE_MESSAGE=1 \
    CHECKPOINT_DISABLE=1
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json prisma.config.ts ./
COPY prisma ./prisma
RUN npx --no-install prisma generate
COPY console ./console
RUN npx --no-install vite build console
COPY src ./src
# The embedded stack is for machines without Docker; what is not in dist/ can't be started by mistake.
RUN npx --no-install tsc -p tsconfig.build.json \
 && node dist/platform/build-workflow-bundle.js \
 && rm -rf dist/embedded dist/.tsbuildinfo

# ---- packages: what runs in production ----
FROM --platform=${BUILDPLATFORM} ${NODE_IMAGE} AS packages
ARG TARGETARCH
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# --omit=optional as well: Prisma's CLI (with TypeScript and React) is an optional peer of its client, and npm keeps such
# packages when only dev ones are left out. No package that runs needs an install script.
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --omit=optional --ignore-scripts
# The SDK carries its native library for five platforms, 30 MB each; this image is one of them.
RUN case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) keep=x86_64-unknown-linux-gnu ;; \
      arm64) keep=aarch64-unknown-linux-gnu ;; \
      *) echo "no native Temporal SDK for this architecture" >&2; exit 1 ;; \
    esac \
 && find node_modules/@temporalio/core-bridge/releases -mindepth 1 -maxdepth 1 ! -name "$keep" -exec rm -rf {} +

# ---- the image ----
FROM ${NODE_IMAGE}
# ca-certificates: the native Temporal client reads the system's roots (Temporal Cloud, TLS); slim images have none.
# tini: reaps, and hands SIGTERM on, also where nobody passes --init.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates tini \
 && rm -rf /var/lib/apt/lists/*
# kafkajs 2.2 sets timers in the past, which newer Node.js versions remark on and then treat as due. Most objects of a role
# live for the milliseconds of one request or delivery: with 32 MB for them, not 16, fewer are copied before they die.
ENV NODE_ENV=production \
    NODE_OPTIONS="--enable-source-maps --max-semi-space-size=32 --disable-warning=TimeoutNegativeWarning" \
    API_HOST=0.0.0.0 \
    METRICS_HOST=0.0.0.0
WORKDIR /app
COPY package.json ./
COPY --from=packages /app/node_modules ./node_modules
# `remit migrate` reads these.
COPY prisma/migrations ./prisma/migrations
COPY prisma/functions ./prisma/functions
COPY clickhouse ./clickhouse
COPY deploy/docker/healthcheck.mjs ./healthcheck.mjs
COPY --from=build /app/dist ./dist
# Everything above belongs to root: the process can't change its own code.
USER 1000:1000
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["node", "healthcheck.mjs", "/healthz"]
ENTRYPOINT ["/usr/bin/tini", "--", "node", "dist/cli.js"]
CMD ["--help"]
