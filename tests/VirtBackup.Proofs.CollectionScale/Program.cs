using VirtBackup.Proofs.CollectionScale;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Testing.Proofs;

if (args is [var verb, var folder] && SizeRun.Verbs.Contains(verb))
{
    return await SizeRun.ServeAsync(verb, folder);
}
return ChunksOption.TryTake(ScaleProof.ProofName, args, out var chunks, out var rest) ? await ProofProgram.RunAsync(new ScaleProof(chunks), rest) : 2;
