#!/bin/sh
# Runs a store for .github/workflows/e2e-backend.yml until it is killed. It listens on the address
# at which containers reach their machine, and keeps all its data in a directory, which actions/cache
# moves to the next runner. The matrix of the workflow has the cache line for each store.
#
#   store.sh s3|azblob DIRECTORY [ADDRESS]
set -eu

address=${3:-172.17.0.1}
case $1 in
s3)
	# Metadata of objects goes into files: archives drop extended attributes.
	mkdir -p "$2/buckets/cache" "$2/metadata"
	exec versitygw --port "$address:7070" --access e2e --secret e2e-of-one-job --quiet \
		posix --sidecar "$2/metadata" "$2/buckets"
	;;
azblob)
	export AZURITE_ACCOUNTS=e2e:ZTJlLW9mLW9uZS1qb2I=
	exec azurite-blob --blobHost "$address" --blobPort 10000 --location "$2" \
		--skipApiVersionCheck --disableTelemetry --silent
	;;
esac
