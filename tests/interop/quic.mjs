// A client of the chain made from docs/protocol.md alone, on quiche (BoringSSL) and Node's crypto: none of our code.
//   quic.mjs request DIR HANDLE CHAIN_ID          makes a key, writes DIR/key.pem, DIR/seal.der and DIR/request
//   quic.mjs register DIR ADDRESS GENESIS ALICE   with DIR/approval: HELLO, GET_HANDLE of ALICE, SUBMIT, GET_HANDLE
//   quic.mjs wrong-chain DIR ADDRESS GENESIS      says HELLO of another chain; prints the code it is closed with
import { QUICClient, events } from '@matrixai/quic'
import * as crypto from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'

const [command, dir, ...words] = process.argv.slice(2)
const hash = (...parts) => crypto.createHash('sha256').update(Buffer.concat(parts)).digest()
const domain = text => Buffer.from(text + '\0')
const u16 = n => { const b = Buffer.alloc(2); b.writeUInt16LE(n); return b }
const u32 = n => { const b = Buffer.alloc(4); b.writeUInt32LE(n); return b }
const u64 = n => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(n)); return b }
const expect = (condition, text) => { if (!condition) throw new Error(text) }

// --- keys and certificates (section 4) ---

const rawKey = key => key.export({ type: 'spki', format: 'der' }).subarray(-32)
const publicKey = raw => crypto.createPublicKey({
  key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]), format: 'der', type: 'spki'
})

function der (tag, ...parts) {
  const body = Buffer.concat(parts)
  const length = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}

function certificate (key) {
  const ed25519 = der(0x30, Buffer.from('06032b6570', 'hex'))
  const name = der(0x30, der(0x31, der(0x30, Buffer.from('0603550403', 'hex'), der(0x0c, Buffer.from('another client')))))
  const dates = der(0x30, der(0x17, Buffer.from('260101000000Z')), der(0x17, Buffer.from('491231235959Z')))
  const spki = crypto.createPublicKey(key).export({ type: 'spki', format: 'der' })
  const tbs = der(0x30, der(0xa0, der(0x02, Buffer.from([2]))), der(0x02, Buffer.from([7])), ed25519, name, dates, name, spki)
  const signature = der(0x03, Buffer.from([0]), crypto.sign(null, tbs, key))
  const base64 = der(0x30, tbs, ed25519, signature).toString('base64').replace(/(.{64})/g, '$1\n')
  return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`
}

// --- the genesis (section 2) ---

function readGenesis (path) {
  const bytes = readFileSync(path)
  let at = 0
  const take = n => bytes.subarray(at, at += n)
  expect(take(2).readUInt16LE() === 1, 'a genesis of version 1')
  take(take(1)[0])
  take(8 + 1)
  const keys = []
  for (let left = take(2).readUInt16LE(); left; left--) {
    keys.push(Buffer.from(take(32)))
    take(4)
    take(take(2).readUInt16LE())
  }
  return { chainId: hash(domain('chappe/chain/1'), bytes), keys }
}

// --- frames (section 5) ---

class Connection {
  static async open (address, key, validators) {
    const self = new Connection()
    const [host, port] = address.split(':')
    self.client = await QUICClient.createQUICClient({
      host,
      port: Number(port),
      crypto: { ops: { randomBytes: async data => { crypto.getRandomValues(new Uint8Array(data)) } } },
      config: {
        key: key.export({ type: 'pkcs8', format: 'pem' }),
        cert: certificate(key),
        applicationProtos: ['chappe/1'],
        sigalgs: 'ed25519',
        verifyPeer: true,
        enableEarlyData: false,
        grease: false,
        // The key is who the peer is; nothing else in the certificate counts.
        verifyCallback: async certs => {
          self.peer = rawKey(new crypto.X509Certificate(certs[0]).publicKey)
          return validators.some(known => known.equals(self.peer)) ? undefined : 46
        }
      }
    })
    self.closed = new Promise(resolve => {
      self.client.connection.addEventListener(events.EventQUICConnectionError.name, event => resolve(event.detail))
    })
    self.stream = self.client.connection.newStream()
    self.writer = self.stream.writable.getWriter()
    self.reader = self.stream.readable.getReader()
    self.buffer = Buffer.alloc(0)
    self.request = 0
    return self
  }

  async send (type, body, flags = 0) {
    const request = ++this.request
    await this.writer.write(Buffer.concat([u32(body.length), u16(type), u16(flags), u64(request), body]))
    return request
  }

  async receive (request) {
    for (;;) {
      const length = this.buffer.length >= 16 ? this.buffer.readUInt32LE() : 0
      if (this.buffer.length >= 16 && this.buffer.length >= 16 + length) {
        const frame = { type: this.buffer.readUInt16LE(4), flags: this.buffer.readUInt16LE(6), request: Number(this.buffer.readBigUInt64LE(8)), body: this.buffer.subarray(16, 16 + length) }
        this.buffer = this.buffer.subarray(16 + length)
        expect(frame.request === request, `an answer to ${frame.request}, not to ${request}`)
        return frame
      }
      const { value, done } = await this.reader.read()
      expect(!done, 'the stream ended')
      this.buffer = Buffer.concat([this.buffer, value])
    }
  }

  async ask (type, body, flags) {
    return this.receive(await this.send(type, body, flags))
  }

  hello (chainId) {
    return this.ask(0x01, Buffer.concat([u16(1), u16(0), u32(0), u64(Date.now()), chainId, Buffer.alloc(20)]))
  }

  async handle (name) {
    const { type, body } = await this.ask(0x11, Buffer.from(name))
    expect(type === 0x12, 'ACCOUNT')
    const status = body.readUInt16LE()
    const row = body.subarray(10)
    return status ? { status } : { status, key: row.subarray(0, 32), sealKey: row.subarray(32, 64), handle: row.subarray(160, 160 + row[157]).toString() }
  }
}

// --- transactions and receipts (sections 3 and 6) ---

function transaction (key, chainId, kind, body) {
  const head = Buffer.concat([rawKey(crypto.createPublicKey(key)), u64(Date.now()), u16(kind), u16(112 + body.length), crypto.randomBytes(4)])
  const signed = Buffer.concat([head, body])
  return Buffer.concat([crypto.sign(null, Buffer.concat([domain('chappe/sig/tx/1'), chainId, signed]), key), signed])
}

function readReceipts ({ type, flags, body }) {
  expect(type === 0x04, 'RECEIPTS')
  const receipts = []
  const count = body.readUInt16LE()
  for (let i = 0; i < count; i++) {
    const bytes = body.subarray(2 + i * 68, 70 + i * 68)
    receipts.push({ bytes, txId: bytes.subarray(0, 32), status: bytes.readUInt16LE(32), level: bytes[34] })
  }
  return { receipts, proof: flags & 4 ? body.subarray(2 + count * 68) : null }
}

// RFC 9162 section 2.1.3.2, up to the root.
function rootOf (leaf, index, size, path) {
  let fn = index
  let sn = size - 1
  let root = leaf
  for (const p of path) {
    expect(sn !== 0, 'the path is too long')
    if (fn & 1 || fn === sn) {
      root = hash(Buffer.from([1]), p, root)
      while (!(fn & 1) && fn) { fn >>= 1; sn >>= 1 }
    } else {
      root = hash(Buffer.from([1]), root, p)
    }
    fn >>= 1
    sn >>= 1
  }
  expect(sn === 0, 'the path is too short')
  return root
}

function checkProof (proof, receipt, chainId, validator) {
  const size = proof.readUInt32LE()
  const signature = proof.subarray(4, 68)
  const path = []
  for (let i = 0; i < proof[72]; i++) path.push(proof.subarray(73 + i * 32, 105 + i * 32))
  const root = rootOf(hash(Buffer.from([0]), receipt.bytes), proof.readUInt32LE(68), size, path)
  const message = Buffer.concat([domain('chappe/sig/receipt/1'), chainId, root, u32(size)])
  expect(crypto.verify(null, message, publicKey(validator), signature), 'the validator did not sign this receipt')
}

// --- what the command line asks for ---

async function request (handle, chain) {
  const { privateKey } = crypto.generateKeyPairSync('ed25519')
  const seal = crypto.generateKeyPairSync('x25519')
  writeFileSync(`${dir}/key.pem`, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  writeFileSync(`${dir}/seal.der`, seal.privateKey.export({ type: 'pkcs8', format: 'der' }), { mode: 0o600 })
  writeFileSync(`${dir}/request`, JSON.stringify({
    chappe: 'registration-request/1',
    chain,
    handle,
    key: rawKey(crypto.createPublicKey(privateKey)).toString('hex'),
    seal_key: rawKey(seal.publicKey).toString('hex')
  }))
}

async function register (address, genesisPath, alice) {
  const { chainId, keys } = readGenesis(genesisPath)
  const key = crypto.createPrivateKey(readFileSync(`${dir}/key.pem`))
  const approval = JSON.parse(readFileSync(`${dir}/approval`))
  const c = await Connection.open(address, key, keys)
  const hello = await c.hello(chainId)
  expect(hello.type === 0x01 && hello.body.length === 68 && hello.body.readUInt16LE() === 1, 'HELLO')
  expect(hello.body.readUInt16LE(2) === 2 && hello.body.subarray(16, 48).equals(chainId), 'of a validator of this chain')
  expect((await c.handle(alice)).handle === alice, 'alice is there')
  expect((await c.handle(approval.handle)).status !== 0, 'we are not')
  const unknown = await c.ask(0x3f, Buffer.alloc(0))
  expect(unknown.type === 0x02, 'STATUS for a frame that nobody knows')

  const handle = Buffer.from(approval.handle)
  const tx = transaction(key, chainId, 0x0101, Buffer.concat([Buffer.from(approval.seal_key, 'hex'),
    Buffer.from(approval.registrar, 'hex'), u64(approval.expires_ms), Buffer.from(approval.approval, 'hex'),
    Buffer.from([handle.length]), handle]))
  const number = await c.send(0x03, tx, 1 | 2)
  const early = readReceipts(await c.receive(number)).receipts[0]
  expect(early.level === 0 && early.status === 0 && early.txId.equals(hash(tx)), `early: ${early.level} ${early.status}`)
  const final = readReceipts(await c.receive(number))
  const receipt = final.receipts[0]
  expect(receipt.level === 1 && receipt.status === 0 && receipt.txId.equals(hash(tx)), `final: ${receipt.level} ${receipt.status}`)
  checkProof(final.proof, receipt, chainId, c.peer)
  const row = await c.handle(approval.handle)
  expect(row.status === 0 && row.key.toString('hex') === approval.key && row.sealKey.toString('hex') === approval.seal_key, 'our row')
  console.log(`registered ${row.handle}`)
}

async function wrongChain (address, genesisPath) {
  const { keys } = readGenesis(genesisPath)
  const c = await Connection.open(address, crypto.createPrivateKey(readFileSync(`${dir}/key.pem`)), keys)
  c.hello(Buffer.alloc(32, 9)).catch(() => {})
  const error = await c.closed
  console.log(`closed ${error.data?.errorCode ?? error.cause?.data?.errorCode ?? error}`)
}

setTimeout(() => { console.error('nothing more came'); process.exit(1) }, 30000)
try {
  await { request, register, 'wrong-chain': wrongChain }[command](...words)
  process.exit(0)
} catch (error) {
  console.error(error)
  process.exit(1)
}
