using VirtBackup.Proofs.CollectionScale;
using VirtBackup.Testing.Proofs;

if (args is [var verb, var folder] && SizeRun.Verbs.Contains(verb))
{
    return await SizeRun.ServeAsync(verb, folder);
}
return ScaleProof.Parse(args, out var proof, out var rest) ? await ProofProgram.RunAsync(proof, rest) : 2;
