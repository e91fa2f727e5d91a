#!/bin/sh
# Runs a store for .github/workflows/e2e-backend.yml until it is killed, on the address that a
# container reaches its machine by, with all that it keeps in a directory, so that a cache of
# files can carry it to the next runner. See the matrix there for the caches that are in it.
#
#   store.sh s3|azblob DIRECTORY [ADDRESS]
set -eu

address=${3:-172.17.0.1}
case $1 in
s3)
	# The metadata of objects beside them: an archive keeps no extended attributes.
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
