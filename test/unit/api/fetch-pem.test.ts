import { fetchPem } from '../../../src/api/fetch-pem';

it.each(['http://127.0.0.1:1/cert', 'https://127.0.0.1:1/cert', 'no address'])(
  'a certificate that can not be had from %s is no verdict on the signature: the sender comes again',
  async (url) => {
    await expect(fetchPem(url)).rejects.toMatchObject({ code: 'unavailable' });
  },
);
