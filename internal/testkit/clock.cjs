// Loaded into a server by NODE_OPTIONS: its clock is fast by the milliseconds in the file that CLOCK names, which a test may change.
const fs = require('fs')

const Right = Date
const now = () => Right.now() + Number(fs.readFileSync(process.env.CLOCK, 'utf8'))

globalThis.Date = class Date extends Right {
  constructor(...args) {
    super(...(args.length ? args : [now()]))
  }

  static now() {
    return now()
  }
}
