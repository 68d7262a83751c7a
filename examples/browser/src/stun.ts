// Whether the relay's STUN servers answer this browser.

/** A browser asks again within this time several times over. */
const ANSWER_MS = 5000

export type Stun = 'none' | 'silent' | 'answers'

/** Asks all of them at once; one answer is enough. */
export async function askStun (urls: string[]): Promise<Stun> {
  if (urls.length === 0) {
    return 'none'
  }
  return (await Promise.all(urls.map(answers))).includes(true) ? 'answers' : 'silent'
}

async function answers (url: string): Promise<boolean> {
  const pc = new RTCPeerConnection({ iceServers: [{ urls: url }] })
  try {
    return await new Promise<boolean>((resolve, reject) => {
      let failed = false
      setTimeout(() => { resolve(false) }, ANSWER_MS)
      pc.onicecandidateerror = () => { failed = true }
      pc.onicecandidate = ({ candidate }) => {
        if (candidate === null) {
          resolve(!failed) // without a NAT the answer is no news, and makes no candidate
        } else if (candidate.type === 'srflx') {
          resolve(true)
        }
      }
      pc.createDataChannel('')
      pc.setLocalDescription().catch(reject)
    })
  } finally {
    pc.close()
  }
}
