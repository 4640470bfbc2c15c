// The root CIDs that ipfs-unixfs-importer gives to files of the lengths on the command line; byte i of each is
// (i * 31 + (i >> 13)) & 255.
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

const MIB = 1 << 20
const nowhere = { async put (cid) { return cid }, async get () { throw new Error('nothing is kept') } }

async function * content (length) {
  for (let at = 0; at < length; at += MIB) {
    const piece = new Uint8Array(Math.min(MIB, length - at))
    for (let i = 0; i < piece.length; i++) piece[i] = (at + i) * 31 + Math.floor((at + i) / 8192)
    yield piece
  }
}

for (const length of process.argv.slice(2).map(Number)) {
  let root
  for await (const entry of importer([{ path: 'file', content: content(length) }], nowhere, {
    cidVersion: 1,
    rawLeaves: true,
    reduceSingleLeafToSelf: true,
    chunker: fixedSize({ chunkSize: MIB }),
    layout: balanced({ maxChildrenPerNode: 1024 })
  })) root = entry.cid
  console.log(`${length} ${root}`)
}
