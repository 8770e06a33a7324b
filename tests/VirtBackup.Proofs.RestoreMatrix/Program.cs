using VirtBackup.Proofs.RestoreMatrix;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
var images = new List<string>();
var rest = new List<string>();
for (var i = 0; i < args.Length; i++)
{
    if (args[i] == "--image" && i + 1 < args.Length)
    {
        images.Add(Path.GetFullPath(args[++i]));
    }
    else
    {
        rest.Add(args[i]);
    }
}
if (images.Find(image => !File.Exists(image)) is { } missing)
{
    Console.Error.WriteLine($"restore-matrix: the image {missing} does not exist.");
    return 2;
}
return await ProofProgram.RunAsync(new RestoreMatrixProof(images), [.. rest]);
