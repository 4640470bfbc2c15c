// Fetches ipfs://CID from one gateway with verified-fetch and writes what came to FILE: helia.mjs GATEWAY CID FILE [MS]
import { trustlessGatewayBlockBroker } from '@helia/trustless-gateway-client'
import { fallbackRouter } from '@helia/fallback-router'
import { createVerifiedFetch } from '@helia/verified-fetch'
import { createHeliaLight } from 'helia'
import { writeFile } from 'node:fs/promises'

const [gateway, cid, file, patience] = process.argv.slice(2)
const deadline = setTimeout(() => {
  console.log('refused: no more that verifies comes') // it asks again for what did not, until it is told to end
  process.exit(1)
}, Number(patience ?? 60000))
const router = fallbackRouter({ gateways: [gateway] })
router.capabilities = undefined // it is the only router, not one to fall back to
const helia = createHeliaLight()
helia.addRouter(router)
helia.addBlockBroker(trustlessGatewayBlockBroker({ allowInsecure: true, allowLocal: true }))
await helia.start()
const fetch = await createVerifiedFetch(helia)
try {
  const answer = await fetch(`ipfs://${cid}`)
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
  await writeFile(file, new Uint8Array(await answer.arrayBuffer()))
  clearTimeout(deadline)
  console.log('verified')
} catch (error) {
  console.log(`refused: ${error.name}: ${error.message}`)
  process.exitCode = 1
}
process.exit()
