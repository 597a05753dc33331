import tseslint from 'typescript-eslint';
import importX from 'eslint-plugin-import-x';

const noRestricted = (patterns) => ({ 'no-restricted-imports': ['error', { patterns }] });
const group = (globs, message, extra = {}) => ({ group: globs, message, ...extra });

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'node_modules/',
      'src/generated/',
      'console/src/generated/',
      '.remit/',
      'coverage/',
      'prisma.config.ts',
    ],
  },
  {
    files: ['**/*.ts', '**/*.tsx'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'import-x': importX },
    settings: { 'import-x/resolver': { node: { extensions: ['.ts', '.tsx', '.js'] } } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-explicit-any': 'error',
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  // What a component does in an event is its own affair; React waits for no promise.
  {
    files: ['console/**/*.tsx'],
    rules: {
      '@typescript-eslint/no-misused-promises': [
        'error',
        { checksVoidReturn: { arguments: false, attributes: false } },
      ],
    },
  },
  // Dependencies point one way: contracts <- domain <- activities; workflows name activities by type only.
  {
    files: ['src/contracts/**/*.ts'],
    rules: noRestricted([
      group(
        [
          '**/domain/**',
          '**/platform/**',
          '**/api/**',
          '**/bridges/**',
          '**/activities/**',
          '**/workflows/*',
        ],
        'contracts depend on nothing of ours',
      ),
    ]),
  },
  {
    files: ['src/providers/**/*.ts'],
    rules: noRestricted([
      group(
        [
          '**/domain/**',
          '**/platform/**',
          '**/api/**',
          '**/bridges/**',
          '**/activities/**',
          '**/workflows/*',
          '!**/contracts/**',
        ],
        'a provider depends on contracts only',
      ),
    ]),
  },
  {
    files: ['src/domain/**/*.ts'],
    rules: noRestricted([
      group(
        ['**/api/**', '**/bridges/**', '**/activities/**', '**/workflows/*', '!**/contracts/**'],
        'domain depends on contracts and platform only',
      ),
    ]),
  },
  {
    files: ['src/workflows/**/*.ts'],
    rules: noRestricted([
      group(
        ['node:*', 'fs', 'path', 'crypto', 'pg', 'kafkajs', 'express'],
        'workflow code is deterministic: no Node built-ins, no clients',
      ),
      group(
        ['**/domain/**', '**/platform/**', '**/api/**', '**/bridges/**'],
        'workflows import contracts and activity types only',
      ),
      group(['**/activities/**'], 'workflows import activity types only', { allowTypeImports: true }),
    ]),
  },
  {
    files: ['src/api/**/*.ts', 'src/bridges/**/*.ts'],
    rules: noRestricted([
      group(
        ['../workflows/*', '../../workflows/*', '**/activities/**'],
        'api and bridges name workflows, they never import their code',
      ),
    ]),
  },
  // A connection that breaks while it is checked out must not end the process (platform/postgres-pool.ts).
  {
    files: ['src/**/*.ts'],
    ignores: ['src/platform/postgres-pool.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'CallExpression[callee.property.name="connect"]:matches([callee.object.name=/pool/i], [callee.object.property.name=/pool/i])',
          message:
            'connections are checked out by withClient or inTransaction (platform/postgres-pool.ts) alone',
        },
        {
          selector:
            'ImportDeclaration[source.value="pg"][importKind!="type"] ImportSpecifier[imported.name="Pool"]',
          message: 'pools are opened by createPool (platform/postgres-pool.ts) alone',
        },
      ],
    },
  },
  { files: ['src/cli.ts', 'bench/**/*.ts', 'src/demo/demo*.ts'], rules: { 'no-console': 'off' } },
);
