using VirtBackup.Proofs.CollectionScale;
using VirtBackup.Testing.Proofs;

if (args is [SizeRun.GenerateVerb or SizeRun.MeasureVerb, var folder])
{
    return await SizeRun.ServeAsync(args[0], folder);
}
return ScaleProof.Parse(args, out var proof, out var rest) ? await ProofProgram.RunAsync(proof, rest) : 2;
