// Serves a greeting on port 8080, or prints it.
import { createServer } from 'node:http'

const greeting = `hello from node ${process.version}`

if (process.argv[2] === 'print') {
  console.log(greeting)
} else {
  createServer((request, response) => response.end(greeting + '\n')).listen(8080)
}
