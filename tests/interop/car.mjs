// Reads a CAR with @ipld/car and checks every block against its CID with multiformats: car.mjs FILE ROOT
import { CarBlockIterator } from '@ipld/car'
import { createReadStream } from 'node:fs'
import { equals } from 'multiformats/bytes'
import { sha256 } from 'multiformats/hashes/sha2'

const [file, root] = process.argv.slice(2)
const blocks = await CarBlockIterator.fromIterable(createReadStream(file))
const roots = (await blocks.getRoots()).map(String)
if (roots.length !== 1 || roots[0] !== root) throw new Error(`roots ${roots}`)
let count = 0
for await (const { cid, bytes } of blocks) {
  const digest = await sha256.digest(bytes)
  if (!equals(digest.digest, cid.multihash.digest)) throw new Error(`${cid} is something else`)
  count++
}
console.log(count)
